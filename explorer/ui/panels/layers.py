"""Every layer: what it costs and what it alone does, at a glance and as a table."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from html import escape

from explorer.ui.asks import Ask
from explorer.ui.color import color
from explorer.ui.desk import Desk
from explorer.ui.markup import number, region, table
from explorer.ui.stage import Stage
from explorer.ui.view import Found, Status
from explorer.ui.words import words
from explorer.values.matrices import LayerReading
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.values.units import plain

WORDS = words("layers")
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
    rows: list[LayerReading] = []
    for rows in desk.bench.layers(recipe):
        yield _drawn(desk, recipe, rows), Status(WORDS.say("layers", done=len(rows)), "busy")
    yield _drawn(desk, recipe, rows), Status(WORDS.say("layers", done=len(rows)), "done")


def _drawn(desk: Desk, recipe: Recipe, rows: list[LayerReading]) -> str:
    known = desk.bench.measured(recipe)
    return strips(rows) + layer_table(rows, known.quality.kl if known and known.quality else None)


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
