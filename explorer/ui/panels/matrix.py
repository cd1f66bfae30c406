"""Inside one matrix, as two pictures: its weights before and after with the levels they can have, and its singular
values with the cut."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from explorer.studies.tracing import inside, names
from explorer.ui.asks import Ask
from explorer.ui.desk import Desk
from explorer.ui.markup import region
from explorer.ui.stage import QUICK, Stage, typed_list
from explorer.ui.view import Found, Status
from explorer.ui.words import words
from explorer.values.matrices import Inside

WORDS = words("matrix")
WIDTH, HEIGHT = 560, 180


def place(stage: Stage) -> None:
    """Which matrix, a button, and the pictures below."""
    with gr.Row(elem_id="inside-ask"):
        which = typed_list([], label=WORDS["matrix"], elem_id="matrix", scale=0, min_width=320)
        button = gr.Button(WORDS["button"], size="sm", scale=0, elem_id="look-inside")
    answer, desk = stage.answer("inside-table"), stage.desk

    def fill() -> Any:
        there = names(desk.bench) if desk.bench.ready.is_set() else []
        return gr.Dropdown(there, value=there[len(there) // 2] if there else None)

    def arrows() -> None:
        stage.study(button.click, partial(found, desk), answer, "inside", [which])
        stage.opened.then(fill, None, which, api_visibility="private", **QUICK)

    stage.later(arrows)


def found(desk: Desk, ask: Ask, name: str) -> Iterator[Found]:
    """The matrix of this name, before and after."""
    yield from desk.applied(ask.recipe)
    shown = pictures(inside(desk.bench, ask.recipe, name))
    yield shown, Status(WORDS.say("inside", matrix=name, words=ask.recipe.words()), "done")


def pictures(found: Inside) -> str:
    """Both pictures, each with what it says in words."""
    levels = WORDS["levels"].format(count=len(found.levels)) if found.levels else WORDS["no_levels"]
    cut = WORDS["cut"].format(rank=found.cut, of=found.ranks[-1]) if found.cut else WORDS["no_cut"]
    shown = _figure(WORDS["weights"], levels, _histogram(found)) + _figure(WORDS["spectrum"], cut, _spectrum(found))
    return region("inside", WORDS["title"], found.name, shown)


def _figure(title: str, note: str, drawing: str) -> str:
    return (
        f'<figure><figcaption><b>{escape(title)}</b> {escape(note)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" aria-label="{escape(title)} {escape(note)}" preserveAspectRatio="none">{drawing}</svg></figure>'
    )


def _histogram(found: Inside) -> str:
    """Square roots of the counts, so that a spike of zeros leaves the rest to be seen."""
    most = math.sqrt(max(*found.before, *found.after, 1))
    ticks = "".join(
        f'<line class="level" x1="{x:.1f}" x2="{x:.1f}" y1="{HEIGHT - 14}" y2="{HEIGHT}"/>'
        for level in found.levels
        if 0 <= (x := (level / found.reach + 1) / 2 * WIDTH) <= WIDTH
    )
    lines = (("before", found.before), ("after", found.after))
    return ticks + "".join(_line(kind, [math.sqrt(count) / most for count in counts]) for kind, counts in lines)


def _spectrum(found: Inside) -> str:
    """From the largest singular value, by powers of ten down to a thousandth."""
    line = _line("before", [1 + max(math.log10(max(value, 1e-3)), -3) / 3 for value in found.spectrum])
    if not found.cut:
        return line
    x = WIDTH * found.cut / found.ranks[-1]
    return line + f'<line class="cut" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT}"/>'


def _line(kind: str, heights: Sequence[float]) -> str:
    step = WIDTH / max(len(heights) - 1, 1)
    points = " ".join(f"{i * step:.1f},{(HEIGHT - 16) * (1 - height) + 1:.1f}" for i, height in enumerate(heights))
    return f'<polyline class="{kind}" points="{points}"/>'
