"""Size against quality, of every setting that was tried: a plotly figure. The only file that knows plotly."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import log10
from pathlib import Path

import plotly
import plotly.graph_objects as go

from explorer import assets
from explorer.ui.stage import Stage, html
from explorer.ui.view import View
from explorer.ui.words import words
from explorer.values.contest import Contender, Contest
from explorer.values.measurement import Measurement
from explorer.values.recipe import Recipe

WORDS = words("plot")
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#64748B"
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
OFF_SCALE = 100  # perplexities above this multiple of the original's are drawn at the edge


def place(stage: Stage) -> None:
    """The script draws what Python sends as JSON, in place: zoom and hover survive."""
    plot = html(
        "",
        html_template='<div class="plot" role="img" aria-label="size against quality"></div>',
        js_on_load=assets.read("plot.js").replace("PLOTLY", f"gradio_api/file={PLOTLY}"),
        elem_id="plot",
        min_width=320,
    )
    stage.follow(plot, draw)


def draw(view: View) -> str | None:
    """The figure, as plotly's JSON."""
    plane = view.plane
    return size_and_quality(plane.tried, plane.now, plane.contest) if plane else None


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


def size_and_quality(tried: Sequence[Measurement], now: Recipe, contest: Contest | None = None) -> str:
    """Every setting that was measured: file size against perplexity, the front line, the original, where we are, and
    the rival that was met last."""
    points = [m for m in tried if m.quality]
    figure = go.Figure(layout=_layout())
    if points:
        longest = max(points, key=lambda m: m.quality.tokens if m.quality else 0)
        assert longest.quality
        scale = Scale(longest.quality.perplexity_original.value)
        _add_front(figure, points, scale)
        _add_original(figure, longest, scale)
        tried_before = [m for m in points if m.recipe not in (Recipe(), now)]
        set_now = [m for m in points if m.recipe == now and now != Recipe()]
        _add_settings(figure, "tried", tried_before, scale, symbol="circle", color=GREY, size=9)
        _add_settings(figure, "now", set_now, scale, symbol="star", color=ORANGE, size=17)
        if contest:
            _add_rival(figure, contest, scale)
        values = [scale.drawn(scale.of(m)) for m in points]
        figure.update_yaxes(range=_span(values, scale.original))
    if all(m.recipe == Recipe() for m in points):
        figure.add_annotation(text=WORDS["empty"], showarrow=False, x=0.5, y=0.45, xref="paper", yref="paper")
    return str(figure.to_json())


def _span(values: Sequence[float], original: float) -> tuple[float, float]:
    """Ends of the logarithmic axis. At least from a tenth below the original to a half above it: a loss of 0.3 % must
    not look like a cliff."""
    low, high = min([*values, original / 1.1]), max([*values, original * 1.5])
    return log10(low / 1.04), log10(high * 1.1)


def _add_front(figure: go.Figure, points: Sequence[Measurement], scale: Scale) -> None:
    front = _front(points, scale)
    figure.add_scatter(
        x=[_megabytes(m) for m in front],
        y=[scale.drawn(scale.of(m)) for m in front],
        mode="lines",
        line={"color": GREY, "width": 2, "shape": "hv", "dash": "dot"},
        name="best so far",
        hoverinfo="skip",
    )


def _add_original(figure: go.Figure, longest: Measurement, scale: Scale) -> None:
    figure.add_scatter(
        x=[_megabytes(longest) * longest.size.compression_ratio.value],
        y=[scale.original],
        mode="markers",
        name="original",
        marker={"symbol": "square", "color": BLUE, "size": 12},
        customdata=[""],
        hovertemplate=f"<b>original</b><br>%{{x:.1f}} MB, perplexity {scale.original:.4g}<extra></extra>",
    )


def _add_settings(
    figure: go.Figure, name: str, some: Sequence[Measurement], scale: Scale, *, symbol: str, color: str, size: int
) -> None:
    worth = [scale.of(m) for m in some]
    figure.add_scatter(
        x=[_megabytes(m) for m in some],
        y=[scale.drawn(value) for value in worth],
        mode="markers",
        name=name,
        marker={
            "symbol": ["triangle-up" if value > scale.ceiling else symbol for value in worth],
            "color": color,
            "size": size,
            "line": {"width": 1, "color": "white"},
        },
        text=[_hover(m, value) for m, value in zip(some, worth, strict=True)],
        customdata=[m.recipe.to_query() for m in some],
        hovertemplate="%{text}<extra></extra>",
    )


def _add_rival(figure: go.Figure, contest: Contest, scale: Scale) -> None:
    level = scale.original * contest.perplexity_ratio
    figure.add_scatter(
        x=[contest.rival.file_bytes.value / 1e6],
        y=[scale.drawn(level)],
        mode="markers",
        name="rival",
        marker={"symbol": "diamond", "color": GREEN, "size": 13, "line": {"width": 1, "color": "white"}},
        text=[_rival_hover(contest.rival, level if level == level else scale.ceiling)],
        hovertemplate="%{text}<extra></extra>",
    )


def _layout() -> dict[str, object]:
    axis = {"gridcolor": "rgba(128,128,128,.25)", "zeroline": False, "automargin": True}
    return {
        "margin": {"l": 52, "r": 12, "t": 26, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {**axis, "title": {"text": "Size on disk (MB, measured)"}, "rangemode": "tozero"},
        "yaxis": {**axis, "title": {"text": "Perplexity (log, measured)"}, "type": "log", "nticks": 6},
        "legend": {"orientation": "h", "x": 1, "y": 1, "xanchor": "right", "yanchor": "bottom"},
        "font": {"family": "IBM Plex Sans, sans-serif", "size": 12},
        "uirevision": "keep",
        "hoverlabel": {"align": "left"},
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
