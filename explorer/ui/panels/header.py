"""The head of the page: the question, the lessons, and which model this is.

Every answer of a lesson is a link that names the lesson, the step, the guess and the setting: a lesson can be entered
at any place, and what the page was asked to hide or lock stays so.
"""

from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import parse_qsl, urlencode

from explorer.studies import lessons
from explorer.studies.lessons import Lesson, Step
from explorer.ui.asks import RECIPE_CONTROLS
from explorer.ui.stage import Stage, html
from explorer.ui.view import View
from explorer.ui.words import words

WORDS = words("header")
KEPT = ("hide", "lock", "present", "__theme")


def place(stage: Stage) -> None:
    """One part, told once: when the model is there."""
    stage.first(html(head("", []), elem_id="top"), draw)


def draw(view: View) -> str | None:
    """The head, once the model is there, and the step of a lesson that the address names."""
    opened = view.opened
    return head(opened.source, opened.notes, opened.number) + section(opened.query) if opened else None


def head(source: str, notes: Sequence[str], number: int = 0) -> str:
    """The question, where else to go, and which model this is; '' before there is one."""
    ready = f' data-ready data-model="{number}"' if source else ""  # from then on nothing more will push the page down
    told = f'<p class="source"{ready}>{escape(source)} {escape(" ".join(notes))}</p>'
    return f"<h1>{escape(WORDS['title'])}</h1>{links()}{told}"


def links() -> str:
    """The lessons, and present mode."""
    each = "".join(
        f'<a href="?{urlencode({"lesson": lesson.name})}" title="{escape(lesson.about)}">{escape(lesson.title)}</a>'
        for lesson in lessons.all_lessons()
    )
    named = WORDS["lessons"]
    present = f'<a href="?present=1" title="{escape(named["present_about"])}">{escape(named["present"])}</a>'
    title = escape(named["title"])
    return f'<nav class="lessons" aria-label="{title}"><b>{title}</b>{each}{present}</nav>'


def section(query: Mapping[str, str]) -> str:
    """The step that the address names, and the rules for controls that it hides or locks; '' where it names none."""
    html, lesson = _rules(query), lessons.find(query.get("lesson", ""))
    if lesson is None:
        return html
    number = _number(query.get("step"), 1, len(lesson.steps))
    return html + _step(lesson, number, query)


def _step(lesson: Lesson, number: int, query: Mapping[str, str]) -> str:
    named, step = WORDS["lessons"], lesson.steps[number - 1]
    kept = {name: query[name] for name in KEPT if query.get(name)}
    guess = _number(query.get("guess"), 0, len(step.options))
    here = {**kept, "lesson": lesson.name, "step": number}
    answers = "".join(
        _answer(text, place, step, guess, urlencode(here | {"guess": place} | _setting(step)))
        for place, text in enumerate(step.options, 1)
    )
    ways = [("back", number - 1), ("next", number + 1)]
    steps = "".join(
        f'<a href="?{urlencode(here | {"step": to})}">{escape(named[word])}</a>'
        for word, to in ways
        if 1 <= to <= len(lesson.steps) and (word == "back" or guess)
    )
    title = named["step"].format(title=lesson.title, number=number, steps=len(lesson.steps))
    then = ""
    if guess:
        verdict = named["right"] if guess - 1 == step.right else named["wrong"].format(right=step.options[step.right])
        then = f'<p class="then"><b>{escape(verdict)}</b> {escape(step.then)}</p>'
    leave = f'<a href="?{urlencode(kept)}">{escape(named["leave"])}</a>'
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
    rules = [f"{_both(name)} {{ display: none !important; }}" for name in hidden]
    rules += [f"{_both(name)} {{ pointer-events: none; interactivity: inert; opacity: .7; }}" for name in locked]
    return f"<style>{' '.join(rules)}</style>" if rules else ""


def _both(name: str) -> str:
    """A control and, of sliders of bits, the buttons below it."""
    return f"#{name}, .ticks[data-for={name}]"


def _number(value: str | None, low: int, high: int) -> int:
    try:
        return min(max(int(value or low), low), high)
    except ValueError:
        return low
