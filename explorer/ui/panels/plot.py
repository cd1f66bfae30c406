"""Size against quality, of every setting that was tried: a picture, and its table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from explorer.ui.drawings import COMPRESSED, LEGEND, ORIGINAL, PAPER, PARTS, SOFT, axis, label
from explorer.ui.markup import number, table
from explorer.ui.pictures import About, Picture, shown
from explorer.ui.stage import Stage, html
from explorer.ui.view import View
from explorer.ui.words import words
from explorer.values.contest import Contender, Contest
from explorer.values.measurement import Measurement
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe

WORDS = words("plot")
LEAST = 1.5  # from the bottom of the axis to its top
OFF_SCALE = 100  # perplexities above this multiple of the original's are drawn at the edge
Trace = dict[str, Any]


def place(stage: Stage) -> None:
    """The picture; zoom and hover survive an update."""
    plot = html("", elem_id="plot", min_width=320)
    stage.follow(plot, lambda view: draw(view, stage.desk.bench.name))


def draw(view: View, model: str) -> str | None:
    """The picture, with every setting tried as its table."""
    plane = view.plane
    return (
        shown(
            size_and_quality(plane.tried, plane.now, plane.contest, plane.budget),
            About.of(model, plane.now),
            settings(plane.tried),
            compact=True,
        )
        if plane
        else None
    )


@dataclass(frozen=True)
class Scale:
    """Perplexities on the text of the longest comparison, whose original's they are drawn against."""

    original: float

    @property
    def ceiling(self) -> float:
        return OFF_SCALE * self.original

    def of(self, m: Measurement) -> float:
        """What a point is worth is its ratio, found on tokens of its own."""
        assert m.quality
        value = self.original * m.quality.perplexity.value / m.quality.perplexity_original.value
        return value if value == value else float("inf")

    def drawn(self, value: float) -> float:
        """At the edge where it is off the scale, or no number."""
        return min(value if value == value else self.ceiling, self.ceiling)


def size_and_quality(
    tried: Sequence[Measurement], now: Recipe, contest: Contest | None = None, budget: float | None = None
) -> Picture:
    """Every setting that was measured: file size against perplexity, the front line, the original, where we are, the
    rival that was met last, and the bytes of the last budget."""
    points = [m for m in tried if m.quality]
    data = list[Trace]()
    told = list[tuple[str, Reading]]()
    if points:
        longest = max(points, key=lambda m: m.quality.tokens if m.quality else 0)
        assert longest.quality
        scale = Scale(longest.quality.perplexity_original.value)
        tried_before = [m for m in points if m.recipe not in (Recipe(), now)]
        set_now = [m for m in points if m.recipe == now and now != Recipe()]
        data = [
            _front_line(points, scale),
            _original(longest, scale),
            _settings("tried", tried_before, scale, symbol="circle", color=SOFT, size=9),
            _settings("now", set_now, scale, symbol="star", color=COMPRESSED, size=17),
        ]
        told = [row for m in points for row in _told(m, scale)]
        if contest:
            data.append(_rival(contest, scale))
    return Picture(
        name="size-and-quality",
        title=WORDS["title"],
        note=WORDS["note"],
        data=data,
        layout=_layout([y for trace in data for y in trace["y"]]) | _budget(budget),
        told=told,
        height=248,
    )


def settings(tried: Sequence[Measurement]) -> str:
    """The same as a table, smallest first."""
    points = sorted((m for m in tried if m.quality), key=_megabytes)
    longest = max(points, key=lambda m: m.quality.tokens if m.quality else 0, default=None)
    scale = Scale(longest.quality.perplexity_original.value) if longest and longest.quality else None
    cells = [[number(reading) for _, reading in _told(m, scale)] for m in points if scale]
    names = [m.recipe.words() for m in points]
    return table("plane", WORDS["title"], WORDS["note"], WORDS["columns"], names, cells)


def _told(m: Measurement, scale: Scale) -> list[tuple[str, Reading]]:
    """A setting's place, as Readings."""
    assert m.quality
    perplexity = replace(m.quality.perplexity, value=scale.of(m), low=None, high=None)
    return [(m.recipe.words(), m.size.file_bytes), (WORDS["perplexity"], perplexity)]


def _front_line(points: Sequence[Measurement], scale: Scale) -> Trace:
    front = _front(points, scale)
    return {
        "type": "scatter",
        "x": [_megabytes(m) for m in front],
        "y": [scale.drawn(scale.of(m)) for m in front],
        "mode": "lines",
        "line": {"color": SOFT, "width": 2, "shape": "hv", "dash": "dot"},
        "name": "best so far",
        "hoverinfo": "skip",
    }


def _original(longest: Measurement, scale: Scale) -> Trace:
    return {
        "type": "scatter",
        "x": [_megabytes(longest) * longest.size.compression_ratio.value],
        "y": [scale.original],
        "mode": "markers",
        "name": "original",
        "marker": {"symbol": "square", "color": ORIGINAL, "size": 12},
        "customdata": [""],
        "hovertemplate": f"<b>original</b><br>%{{x:.1f}} MB, perplexity {scale.original:.4g}<extra></extra>",
    }


def _settings(name: str, some: Sequence[Measurement], scale: Scale, *, symbol: str, color: str, size: int) -> Trace:
    worth = [scale.of(m) for m in some]
    return {
        "type": "scatter",
        "x": [_megabytes(m) for m in some],
        "y": [scale.drawn(value) for value in worth],
        "mode": "markers",
        "name": name,
        "marker": {
            "symbol": ["triangle-up" if value > scale.ceiling else symbol for value in worth],
            "color": color,
            "size": size,
            "line": {"width": 1, "color": PAPER},
        },
        "text": [_hover(m, value) for m, value in zip(some, worth, strict=True)],
        "customdata": [m.recipe.to_query() for m in some],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _rival(contest: Contest, scale: Scale) -> Trace:
    level = scale.original * contest.perplexity_ratio
    return {
        "type": "scatter",
        "x": [contest.rival.file_bytes.value / 1e6],
        "y": [scale.drawn(level)],
        "mode": "markers",
        "name": "rival",
        "marker": {"symbol": "diamond", "color": PARTS[2], "size": 13, "line": {"width": 1, "color": PAPER}},
        "text": [_rival_hover(contest.rival, level if level == level else scale.ceiling)],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _layout(levels: Sequence[float]) -> dict[str, object]:
    """A loss of a few per cent must not look like a cliff: the axis spans at least `LEAST`."""
    low, high = (min(levels) * 0.97, max(levels) * 1.12) if levels else (1.0, 1.0)
    reach = [math.log10(low), math.log10(max(high, low * LEAST))]
    return {
        "margin": {"l": 52, "r": 12, "t": 26, "b": 38},
        "xaxis": axis(WORDS["x"], rangemode="tozero", fixedrange=False),
        "yaxis": axis(WORDS["y"], type="log", nticks=6, fixedrange=False, range=reach),
        "showlegend": True,
        "legend": LEGEND | {"x": 1, "y": 1, "xanchor": "right"},
        "uirevision": "keep",
    }


def _budget(most: float | None) -> dict[str, object]:
    """The bytes that were allowed, as an upright line."""
    if not most:
        return {}
    line = {"type": "line", "x0": most / 1e6, "x1": most / 1e6, "yref": "paper", "y0": 0, "y1": 1}
    words = label(WORDS["budget"].format(size=f"{most / 1e6:,.4g}"), most / 1e6, 0, xref="x", xanchor="left", xshift=3)
    return {
        "shapes": [line | {"line": {"color": PARTS[2], "dash": "dash", "width": 2}}],
        "annotations": [words | {"yanchor": "bottom"}],
    }


def _front(points: Sequence[Measurement], scale: Scale) -> list[Measurement]:
    """The points that no other beats in both size and perplexity, smallest first."""
    best: list[Measurement] = []
    for point in sorted(points, key=lambda m: (_megabytes(m), scale.of(m))):
        if not best or scale.of(point) < scale.of(best[-1]):
            best.append(point)
    return best


def _hover(m: Measurement, perplexity: float) -> str:
    assert m.quality
    lines = [f"<b>{escape(m.recipe.words())}</b>", f"{_megabytes(m):.1f} MB, perplexity {perplexity:.4g}"]
    lines.append(f"KL {m.quality.kl.value:.4g} over {m.quality.tokens:,} tokens")
    if m.speed:
        lines.append(f"{m.speed.ms_per_token.value:.1f} ms per token ({m.speed.kernel})")
    return "<br>".join([*lines, "a click sets the controls to it"])


def _rival_hover(rival: Contender, level: float) -> str:
    lines = [f"<b>{escape(rival.name)}</b>", f"{rival.file_bytes.value / 1e6:.1f} MB"]
    lines.append(
        f"{rival.bits_per_byte.value:.4f} bits per byte, as a perplexity of {level:.4g} in the original's tokens"
    )
    return "<br>".join([*lines, f"{rival.ms_per_token.value:.1f} ms per token"])


def _megabytes(m: Measurement) -> float:
    return m.size.file_bytes.value / 1e6
