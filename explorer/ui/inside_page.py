"""A matrix as two pictures: its weights before and after with the levels they can have, and its singular values with
the cut. Drawn from numbers alone."""

import math
from collections.abc import Sequence
from html import escape

from explorer.records import Inside
from explorer.ui.views import WORDS, region

WIDTH, HEIGHT = 560, 180


def pictures(found: Inside) -> str:
    """Both pictures, each with what it says in words."""
    words = WORDS["inside"]
    levels = words["levels"].format(count=len(found.levels)) if found.levels else words["no_levels"]
    cut = words["cut"].format(rank=found.cut, of=found.ranks[-1]) if found.cut else words["no_cut"]
    shown = _figure(words["weights"], levels, _histogram(found)) + _figure(words["spectrum"], cut, _spectrum(found))
    return region("inside", words["title"], found.name, shown)


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
