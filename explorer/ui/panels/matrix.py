"""Inside one matrix, as two pictures: its weights before and after with the levels they can have, and its singular
values with the cut."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from explorer.studies.tracing import inside, names
from explorer.ui.asks import Ask
from explorer.ui.desk import Desk
from explorer.ui.drawings import curves
from explorer.ui.markup import table
from explorer.ui.pictures import About, Picture, shown
from explorer.ui.stage import QUICK, Stage, typed_list
from explorer.ui.view import Found, Status
from explorer.ui.words import words
from explorer.values.matrices import Inside
from explorer.values.reading import Reading

WORDS = words("matrix")


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
    drawn = pictures(inside(desk.bench, ask.recipe, name), About.of(desk.bench.name, ask.recipe))
    yield drawn, Status(WORDS.say("inside", matrix=name, words=ask.recipe.words()), "done")


def pictures(found: Inside, about: About) -> str:
    """Both pictures, each with what it says in words, and its numbers behind a switch."""
    return shown(weights(found), about, _bins(found)) + shown(spectrum(found), about, _ranks(found))


def weights(found: Inside) -> Picture:
    """How the weights are spread, before and after, and the values that one group of them can have. Square roots of
    the counts, so that a spike of zeros leaves the rest to be seen."""
    named = WORDS["weights"]
    levels = [level for level in found.levels if abs(level) <= found.reach]
    note = named["levels"].format(count=len(found.levels)) if found.levels else named["no_levels"]
    most = max(*found.before, *found.after, 1)
    ticks = [0.0, *dict.fromkeys(float(f"{most * share:.0e}") for share in (0.01, 0.1, 0.3, 0.6, 1))]
    counts = {"tickvals": [math.sqrt(tick) for tick in ticks], "ticktext": [f"{tick:,.0f}" for tick in ticks]}
    lines = {
        name: ([math.sqrt(count) for count in some], [f"{count:,}" for count in some])
        for name, some in zip(named["lines"], (found.before, found.after), strict=True)
    }
    axes = {"title": named["x"], "range": [-found.reach, found.reach]}, {"title": named["y"], **counts}
    title = named["title"].format(name=found.name)
    told = [(named["all"], _count(sum(found.before))), (named["stroke"], _count(len(found.levels)))]
    return curves("weights", title, note, _middles(found), lines, axes, told, levels, named["stroke"])


def spectrum(found: Inside) -> Picture:
    """Singular values by rank, from the largest by powers of ten down to a thousandth, and the cut."""
    named = WORDS["spectrum"]
    note = named["cut"].format(rank=found.cut, of=found.ranks[-1]) if found.cut else named["no_cut"]
    values = [max(value, 1e-6) for value in found.spectrum]
    lines = {named["line"]: (values, [f"{value:.4g}" for value in found.spectrum])}
    axes = {"title": named["x"]}, {"title": named["y"], "type": "log", "range": [-3, 0.05], "dtick": 1}
    strokes = [float(found.cut)] if found.cut else []
    title = named["title"].format(name=found.name)
    told = [(named["x"], _count(found.cut or found.ranks[-1]))]
    return curves("singular-values", title, note, found.ranks, lines, axes, told, strokes, named["stroke"])


def _count(value: int) -> Reading:
    return Reading(value=value, unit="count", how="measured")


def _middles(found: Inside) -> list[float]:
    """Where the bins' middles lie."""
    bins = len(found.before)
    return [found.reach * ((2 * i + 1) / bins - 1) for i in range(bins)]


def _bins(found: Inside) -> str:
    named = WORDS["weights"]
    cells = [[f"{count:,}" for count in pair] for pair in zip(found.before, found.after, strict=True)]
    rows = [f"{middle:.4g}" for middle in _middles(found)]
    return table("bins", named["title"].format(name=found.name), "", [named["x"], *named["lines"]], rows, cells)


def _ranks(found: Inside) -> str:
    named = WORDS["spectrum"]
    rows = [f"{rank:,}" for rank in found.ranks]
    cells = [[f"{value:.4g}"] for value in found.spectrum]
    return table("ranks", named["title"].format(name=found.name), "", [named["x"], named["y"]], rows, cells)
