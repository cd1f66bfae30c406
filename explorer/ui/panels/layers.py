"""Every layer: what it costs and what it alone does, at a glance and as a table."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any

from explorer.ui.asks import Ask
from explorer.ui.color import color
from explorer.ui.desk import Desk
from explorer.ui.drawings import grid
from explorer.ui.markup import number, region, table
from explorer.ui.pictures import About, Picture, shown
from explorer.ui.stage import Stage
from explorer.ui.view import Found, Status
from explorer.ui.words import words
from explorer.values.matrices import LayerReading
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.values.units import plain
from explorer.workbench.techniques import apart

WORDS = words("layers")
LEAST = 1e-6  # nats: no colour is paler
HIGHEST = 16  # px, of a bar in a strip
FIGURES: dict[str, Callable[[LayerReading], Reading]] = {
    "kl": lambda row: row.kl,
    "output_error": lambda row: row.output_error,
    "file_bytes": lambda row: row.file_bytes,
    "zeros": lambda row: row.zeros,
}


def place(stage: Stage) -> None:
    """A button, and the strips and the table below."""
    stage.question(WORDS, partial(found, stage.desk), ("measure-layers", "layer-table"), "layers")


def found(desk: Desk, ask: Ask) -> Iterator[Found]:
    """Layer by layer."""
    recipe = ask.recipe
    if recipe == Recipe():
        raise ValueError("nothing is compressed yet.")
    yield from desk.applied(recipe)
    about, whole = About.of(desk.bench.name, recipe), WORDS["techniques"]["together"]
    by: dict[str, list[LayerReading]] = {}
    for name, one in {whole: recipe, **apart(recipe)}.items():
        yield from desk.applied(one)
        for rows in desk.bench.layers(one):
            by[WORDS["techniques"]["names"].get(name, name)] = rows
            yield (
                _drawn(desk, recipe, by, about),
                Status(WORDS.say("layers", done=len(rows), words=one.words()), "busy"),
            )
    yield _drawn(desk, recipe, by, about), Status(WORDS.say("done", words=recipe.words()), "done")


def _drawn(desk: Desk, recipe: Recipe, by: dict[str, list[LayerReading]], about: About) -> str:
    """`by` technique: what each matrix does alone; the whole setting first."""
    known, rows = desk.bench.measured(recipe), next(iter(by.values()))
    html = shown(each_layer(rows), about, layer_table(rows, known.quality.kl if known and known.quality else None))
    if len(by) > 1:
        html += shown(each_technique(by), about, technique_table(by))
    return html + strips(rows)


def each_layer(rows: Sequence[LayerReading]) -> Picture:
    """What each matrix alone does to the predictions: kinds by blocks."""
    cells = {_place(row.name): (_shade(row.kl), "", row.kl) for row in sorted(rows, key=_outside)}
    named = WORDS["drawn"]
    return grid("layers", WORDS["title"], named["note"], cells, _colors(cells))


def each_technique(by: dict[str, list[LayerReading]]) -> Picture:
    """What each technique alone does to the predictions in each block: the sum over its matrices."""
    cells = {key: (_shade(kl), "", kl) for key, kl in _by_block(by).items()}
    named = WORDS["techniques"]
    return grid("layers-and-techniques", named["title"], named["note"], cells, _colors(cells))


def technique_table(by: dict[str, list[LayerReading]]) -> str:
    """The same as a table: blocks down, techniques across."""
    named, sums = WORDS["techniques"], _by_block(by)
    blocks = list(dict.fromkeys(block for _, block in sums))
    cells = [[number(sums.get((technique, block))) for technique in by] for block in blocks]
    return table("techniques", named["title"], named["note"], [named["corner"], *by], blocks, cells)


def _by_block(by: dict[str, list[LayerReading]]) -> dict[tuple[str, str], Reading]:
    sums: dict[tuple[str, str], Reading] = {}
    for technique, rows in by.items():
        for row in sorted(rows, key=_outside):
            key = technique, _place(row.name)[1]
            sums[key] = replace(
                row.kl, value=row.kl.value + (sums[key].value if key in sums else 0.0), low=None, high=None
            )
    return sums


def _place(name: str) -> tuple[str, str]:
    """Row and column of a matrix; what is in no block has a column of its own."""
    found = position(name)
    return (found[0], str(found[1])) if found else (name.rpartition(".")[2], WORDS["drawn"]["outside"])


def _outside(row: LayerReading) -> bool:
    return position(row.name) is None


def _shade(kl: Reading) -> float:
    return math.log10(max(kl.value, LEAST)) if math.isfinite(kl.value) else math.nan


def _colors(cells: Mapping[tuple[str, str], tuple[float, str, Reading]]) -> dict[str, Any]:
    """From the least to the most, by ratios; lightness alone tells too."""
    known = [shade for shade, _, _ in cells.values() if math.isfinite(shade)]
    low, high = min(known, default=-1.0), max(known, default=0.0)
    marks = [math.log10(lead) + power for power in range(math.floor(low), math.ceil(high) + 1) for lead in (1, 2, 5)]
    marks = [mark for mark in marks if low <= mark <= high]
    bar = {"tickvals": marks, "ticktext": [f"{10.0**mark:.4g}" for mark in marks], "thickness": 12, "outlinewidth": 0}
    bar |= {"title": {"text": WORDS["drawn"]["bar"], "side": "right", "font": {"size": 12}}}
    return {"colorscale": "Cividis", "zmin": low, "zmax": high if high > low else low + 1, "colorbar": bar}


def layer_table(rows: list[LayerReading], whole: Reading | None) -> str:
    """Every compressed matrix: what it costs, how far off its outputs are, and its share of what the model lost."""
    total = sum(row.kl.value for row in rows) or 1.0
    ordered = sorted(rows, key=lambda row: -row.kl.value)
    cells = [
        [
            f"{row.shape[0]}×{row.shape[1]}",
            str(row.rank or "–"),
            str(row.bits),
            *map(number, (row.zeros, row.file_bytes, row.output_error, row.kl, _share(row.kl, total))),
        ]
        for row in ordered
    ]
    note = WORDS["note"].format(total=f"{total:.4f}", whole=f"{whole.value:.4f}" if whole else "…")
    return table("each", WORDS["title"], note, WORDS["columns"], [row.name for row in ordered], cells)


def _share(part: Reading, total: float) -> Reading:
    return replace(part, value=part.value / total, unit="share", how="calculated")


def strips(rows: Sequence[LayerReading]) -> str:
    """One strip for each figure; the highest bar is the largest value. '' where no matrix is in a block."""
    placed = {key: row for row in rows if (key := position(row.name))}
    if not placed:
        return ""
    named = WORDS["strip"]
    body = "".join(_strip(placed, name, named["figures"][name]) for name in FIGURES)
    return region("strips", named["title"], named["note"], body)


def position(name: str) -> tuple[str, int] | None:
    """(kind, block) of a matrix by its name; None outside the blocks."""
    found = re.search(r"\.(\d+)\.(.+)$", name)
    return (found[2].rpartition(".")[2], int(found[1])) if found else None


def _strip(placed: dict[tuple[str, int], LayerReading], name: str, title: str) -> str:
    values = {key: FIGURES[name](row) for key, row in placed.items()}
    sound = [reading.value for reading in values.values() if math.isfinite(reading.value)]
    most = max(sound, default=0.0) or 1.0
    kinds, blocks = list(dict.fromkeys(kind for kind, _ in placed)), sorted({block for _, block in placed})
    lines = []
    for kind in kinds:
        cells = "".join(_cell(placed.get((kind, b)), values.get((kind, b)), most, name == "kl") for b in blocks)
        lines.append(f'<tr><th scope="row">{escape(kind)}</th>{cells}</tr>')
    return f"<table><caption>{escape(title)}</caption><tbody>{''.join(lines)}</tbody></table>"


def _cell(row: LayerReading | None, reading: Reading | None, most: float, colored: bool) -> str:
    if row is None or reading is None:
        return "<td></td>"
    share = min(reading.value / most, 1.0) if math.isfinite(reading.value) else 1.0
    paint = f";background:{color(reading.value)}" if colored else ""
    says = f"{row.name}: {plain(reading, reading.value)}"
    return f'<td title="{escape(says)}"><i style="height:{max(1, round(HIGHEST * share))}px{paint}"></i></td>'
