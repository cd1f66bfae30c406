"""Layers at a glance: blocks from left to right, kinds of matrix from top to bottom, a bar in each place."""

import math
import re
from collections.abc import Callable, Sequence
from html import escape

from explorer.records import LayerReading, Reading
from explorer.ui.landscape import color
from explorer.ui.views import WORDS, plain, region

HIGHEST = 16  # px
FIGURES: dict[str, Callable[[LayerReading], Reading]] = {
    "kl": lambda row: row.kl,
    "output_error": lambda row: row.output_error,
    "file_bytes": lambda row: row.file_bytes,
    "zeros": lambda row: row.zeros,
}


def strips(rows: Sequence[LayerReading]) -> str:
    """One strip for each figure; the highest bar is the largest value. '' where no matrix is in a block."""
    placed = {key: row for row in rows if (key := place(row.name))}
    if not placed:
        return ""
    words = WORDS["strip"]
    body = "".join(_strip(placed, name, words["figures"][name]) for name in FIGURES)
    return region("strips", words["title"], words["note"], body)


def place(name: str) -> tuple[str, int] | None:
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
