"""Easy questions: how many the compressed model still gets right, which answers changed, and all of them."""

from collections.abc import Iterable, Iterator
from functools import partial
from html import escape
from typing import Any

from explorer.ui.asks import Ask
from explorer.ui.desk import Desk
from explorer.ui.markup import end, number, region, table
from explorer.ui.stage import Stage
from explorer.ui.view import Found, Status
from explorer.ui.words import words
from explorer.values.questions import Answer, Questions, Tally
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe

WORDS = words("questions")


def place(stage: Stage) -> None:
    """A button, and the answers below."""
    stage.question(WORDS, partial(found, stage.desk), ("ask-questions", "questions-table"), "questions")


def found(desk: Desk, ask: Ask) -> Iterator[Found]:
    """Some dozens of questions at a time."""
    recipe = ask.recipe
    yield from desk.applied(recipe)
    for told in desk.bench.questions(recipe):
        whole = told.whole
        if told.complete:
            desk.bench.record(desk.bench.variant(recipe), questions=told)
            right, original = (f"{side.value:.0f}" for side in (whole.right, whole.right_original))
            line = WORDS.say("done", right=right, original=original, asked=whole.asked, words=recipe.words())
            yield tables(told, same=recipe == Recipe()), Status(line, "done")
        else:
            yield tables(told), Status(WORDS.say("asking", asked=whole.asked, of=told.of), "busy")


def tables(told: Questions, same: bool = False) -> str:
    """All that is known so far; `same`: the setting is the original."""
    return _whole(told, same) + _flipped(told) + _kinds(told.by_kind) + _all(told.answers)


def _whole(told: Questions, same: bool) -> str:
    """Three counts and what they mean, in a sentence."""
    whole = told.whole
    guessing = Reading(value=told.chance, unit="questions", how="calculated")
    sides = (("compressed", whole.right), ("original", whole.right_original), ("guessing", guessing))
    counts = ", ".join(f"{escape(WORDS[name])} {number(side)}" for name, side in sides)
    sentence = WORDS["same"] if same else WORDS[told.verdict].format(p=f"{told.p:.2g}")
    lost = "" if same else WORDS["lost"].format(lost=whole.lost, gained=whole.gained)
    some = "" if told.complete else WORDS["some"].format(asked=whole.asked, of=told.of)
    note = " ".join(filter(None, (some, lost, sentence)))
    headline = f'<p class="headline">{escape(WORDS["whole"].format(asked=whole.asked))} {counts}</p>'
    return region("asked", WORDS["title"], "", f"{headline}<p>{escape(note)}</p>")


def _kinds(tallies: Iterable[Tally]) -> str:
    named, some = WORDS["kinds"], list(tallies)
    names = [named["names"].get(tally.kind, tally.kind) for tally in some]
    rows = [
        [
            number(tally.right_original),
            number(tally.right),
            *(number(_count(flips, tally.asked)) for flips in (tally.lost, tally.gained)),
            number(tally.difference),
            *(number(end(tally.difference, at)) for at in (tally.difference.low, tally.difference.high)),
        ]
        for tally in some
    ]
    return table("kinds", named["title"], named["note"], named["columns"], names, rows)


def _flipped(told: Questions) -> str:
    named = WORDS["flipped"]
    if not told.flipped:
        return region("flipped", named["title"], named["none"], "")
    return _answers("flipped", named, told.flipped)


def _all(answers: Iterable[Answer]) -> str:
    """Every question, behind a disclosure."""
    named, some = WORDS["all"], list(answers)
    summary = escape(named["summary"].format(asked=len(some)))
    return f'<details class="all-questions"><summary>{summary}</summary>{_answers("every", named, some)}</details>'


def _answers(kind: str, named: dict[str, Any], answers: list[Answer]) -> str:
    rows = [
        [
            escape(answer.question.right),
            _said(answer.original, answer.question.right),
            _said(answer.compressed, answer.question.right),
            escape(WORDS["marks"][_mark(answer)]),
        ]
        for answer in answers
    ]
    names = [f"{answer.question.begins} …" for answer in answers]
    return table(f"answers {kind}", named["title"], named["note"], named["columns"], names, rows)


def _said(said: str | None, right: str) -> str:
    """An answer with a sign of its own beside the colour."""
    good = said == right
    sign = "✓" if good else "✗"
    word = WORDS["marks"]["nothing"] if said is None else said
    return f'<span class="said {"good" if good else "bad"}"><i aria-hidden="true">{sign}</i> {escape(word)}</span>'


def _mark(answer: Answer) -> str:
    if answer.lost or answer.gained:
        return "lost" if answer.lost else "gained"
    return "both" if answer.original == answer.question.right else "neither"


def _count(flips: int, asked: int) -> Reading:
    return Reading(value=flips, unit="questions", how="measured", n=asked)
