"""Measurements → the size and quality plot, as plotly JSON. The only file that knows plotly."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import plotly
import plotly.graph_objects as go

from explorer.contest import Contender, Contest
from explorer.recipe import Recipe
from explorer.records import Measurement

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#64748B"
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
OFF_SCALE = 100  # perplexities above this multiple of the original's are drawn at the edge


def size_and_quality(tried: Sequence[Measurement], now: Recipe, contest: Contest | None = None) -> str:
    """Every setting that was measured: file size against perplexity, the front line, the original, where we are, and
    the rival that was met last."""
    points = [m for m in tried if m.quality]
    figure = go.Figure(layout=_layout())
    if not points:
        return str(figure.to_json())
    best_known = max(points, key=lambda m: m.quality.tokens if m.quality else 0)
    assert best_known.quality
    original = best_known.quality.perplexity_original.value
    ceiling = OFF_SCALE * original

    def perplexity(m: Measurement) -> float:
        """On the text of the longest comparison: what a point is worth is its ratio, found on tokens of its own."""
        assert m.quality
        value = original * m.quality.perplexity.value / m.quality.perplexity_original.value
        return value if value == value else float("inf")

    front = _front(points, perplexity)
    figure.add_scatter(
        x=[_megabytes(m) for m in front],
        y=[min(perplexity(m), ceiling) for m in front],
        mode="lines",
        line={"color": GREY, "width": 2, "shape": "hv", "dash": "dot"},
        name="best so far",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[_megabytes(best_known) * best_known.size.compression_ratio.value],
        y=[original],
        mode="markers",
        name="original",
        marker={"symbol": "square", "color": BLUE, "size": 12},
        customdata=[""],
        hovertemplate=f"<b>original</b><br>%{{x:.1f}} MB, perplexity {original:.4g}<extra></extra>",
    )
    groups = (
        ("tried", [m for m in points if m.recipe not in (Recipe(), now)], "circle", GREY, 9),
        ("now", [m for m in points if m.recipe == now and now != Recipe()], "star", ORANGE, 17),
    )
    for name, group, symbol, color, size in groups:
        figure.add_scatter(
            x=[_megabytes(m) for m in group],
            y=[min(perplexity(m), ceiling) for m in group],
            mode="markers",
            name=name,
            marker={
                "symbol": ["triangle-up" if perplexity(m) > ceiling else symbol for m in group],
                "color": color,
                "size": size,
                "line": {"width": 1, "color": "white"},
            },
            text=[_hover(m, perplexity(m)) for m in group],
            customdata=[m.recipe.to_query() for m in group],
            hovertemplate="%{text}<extra></extra>",
        )
    if contest:
        rival, level = contest.rival, original * contest.perplexity_ratio
        level = level if level == level else ceiling
        figure.add_scatter(
            x=[rival.file_bytes.value / 1e6],
            y=[min(level, ceiling)],
            mode="markers",
            name="rival",
            marker={"symbol": "diamond", "color": GREEN, "size": 13, "line": {"width": 1, "color": "white"}},
            text=[_rival_hover(rival, level)],
            hovertemplate="%{text}<extra></extra>",
        )
    return str(figure.to_json())


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


def _front(points: Sequence[Measurement], perplexity: Callable[[Measurement], float]) -> list[Measurement]:
    """The points that no other beats in both size and perplexity, smallest first."""
    best: list[Measurement] = []
    for point in sorted(points, key=lambda m: (_megabytes(m), perplexity(m))):
        if not best or perplexity(point) < perplexity(best[-1]):
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
