"""A lesson as HTML. Every answer is a link that names the lesson, the step, the guess and the setting: a lesson can be
entered at any place, and what the page was asked to hide or lock stays so."""

from collections.abc import Mapping
from html import escape
from urllib.parse import parse_qsl, urlencode

from explorer import lessons
from explorer.lessons import Lesson, Step
from explorer.ui.asks import RECIPE_CONTROLS
from explorer.ui.views import WORDS

KEPT = ("hide", "lock", "present", "__theme")


def links() -> str:
    """The lessons, for the head of the page."""
    each = "".join(
        f'<a href="?{urlencode({"lesson": lesson.name})}" title="{escape(lesson.about)}">{escape(lesson.title)}</a>'
        for lesson in lessons.all_lessons()
    )
    words = WORDS["lessons"]
    present = f'<a href="?present=1" title="{escape(words["present_about"])}">{escape(words["present"])}</a>'
    title = escape(words["title"])
    return f'<nav class="lessons" aria-label="{title}"><b>{title}</b>{each}{present}</nav>'


def section(query: Mapping[str, str]) -> str:
    """The step that the address names, and the rules for controls that it hides or locks; '' where it names none."""
    html, lesson = _rules(query), lessons.find(query.get("lesson", ""))
    if lesson is None:
        return html
    number = _number(query.get("step"), 1, len(lesson.steps))
    return html + _step(lesson, number, query)


def _step(lesson: Lesson, number: int, query: Mapping[str, str]) -> str:
    words, step = WORDS["lessons"], lesson.steps[number - 1]
    kept = {name: query[name] for name in KEPT if query.get(name)}
    guess = _number(query.get("guess"), 0, len(step.options))
    here = {**kept, "lesson": lesson.name, "step": number}
    answers = "".join(
        _answer(text, place, step, guess, urlencode(here | {"guess": place} | _setting(step)))
        for place, text in enumerate(step.options, 1)
    )
    ways = [("back", number - 1), ("next", number + 1)]
    steps = "".join(
        f'<a href="?{urlencode(here | {"step": to})}">{escape(words[word])}</a>'
        for word, to in ways
        if 1 <= to <= len(lesson.steps) and (word == "back" or guess)
    )
    title = words["step"].format(title=lesson.title, number=number, steps=len(lesson.steps))
    then = ""
    if guess:
        verdict = words["right"] if guess - 1 == step.right else words["wrong"].format(right=step.options[step.right])
        then = f'<p class="then"><b>{escape(verdict)}</b> {escape(step.then)}</p>'
    leave = f'<a href="?{urlencode(kept)}">{escape(words["leave"])}</a>'
    return (
        f'<section class="lesson" aria-label="{escape(title)}"><h2>{escape(title)}</h2><p>{escape(step.say)}</p>'
        f'<p class="ask"><b>{escape(step.ask)}</b> {answers}</p>{then}<p class="ways">{steps}{leave}</p></section>'
    )


def _answer(text: str, place: int, step: Step, guess: int, query: str) -> str:
    kind = "right" if guess and place - 1 == step.right else "wrong" if place == guess else ""
    sign = {"right": "✓ ", "wrong": "✗ "}.get(kind, "")
    return f'<a class="answer {kind}" href="?{query}">{sign}{escape(text)}</a>'


def _setting(step: Step) -> dict[str, str]:
    return dict(parse_qsl(step.recipe.to_query()))


def _rules(query: Mapping[str, str]) -> str:
    """Only names of controls become rules; all else in the address is nobody's."""
    hidden, locked = (
        [name for name in query.get(word, "").split(",") if name in RECIPE_CONTROLS] for word in ("hide", "lock")
    )
    rules = [f"#{name} {{ display: none !important; }}" for name in hidden]
    rules += [f"#{name} {{ pointer-events: none; interactivity: inert; opacity: .7; }}" for name in locked]
    return f"<style>{' '.join(rules)}</style>" if rules else ""


def _number(value: str | None, low: int, high: int) -> int:
    try:
        return min(max(int(value or low), low), high)
    except ValueError:
        return low
