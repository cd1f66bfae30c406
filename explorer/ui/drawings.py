"""The kinds of pictures: bars, areas, grids and lines of Readings, as plotly names them. One style: colours are names
of the style sheet's, and a shape, a place or a word tells without colour."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from explorer.ui.pictures import Picture
from explorer.values.reading import Reading
from explorer.values.units import plain

ORIGINAL, COMPRESSED, INK, SOFT, GRID, PAPER = (
    f"var(--{name})" for name in ("original", "compressed", "ink", "soft", "grid", "paper")
)
PARTS = tuple(f"var(--part-{i})" for i in range(1, 8))  # Okabe and Ito's, which the colour-blind tell apart
SYMBOLS = ("square", "circle", "diamond", "cross")  # a shape beside the colour
Named = Mapping[str, Reading]
LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom", "traceorder": "normal"}


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """An axis in the one style; a finger that moves over it scrolls the page."""
    words = {"text": title, "font": {"size": 12}, "standoff": 8}
    return {"gridcolor": GRID, "zeroline": False, "automargin": True, "fixedrange": True, "title": words} | more


def names(**more: Any) -> dict[str, Any]:
    """An axis of names, the first above."""
    return axis(autorange="reversed", type="category", showgrid=False, ticksuffix=" ", **more)


def label(text: str, x: float, y: float | str, **more: Any) -> dict[str, Any]:
    """Words in a picture."""
    return {"text": text, "x": x, "y": y, "xref": "paper", "yref": "paper", "showarrow": False} | more


def _beside(row: str, words: str, x: float) -> dict[str, Any]:
    """Words at the right end of a bar."""
    return label(words, x, escape(row), xref="x", yref="y", xanchor="left", xshift=6)


def areas(
    name: str, title: str, note: str, parts: Named, before: Reading, now: Reading, words: Mapping[str, str]
) -> Picture:
    """Areas by part; both outlines have one scale, so that what is white within the larger is what is gone. `words`:
    `before` and `now`."""
    whole = max(before.value, now.value)
    sides = [math.sqrt(max(each.value, 0) / whole) for each in (before, now)]
    data = {
        "type": "treemap",
        "labels": [escape(part) for part in parts],
        "parents": [""] * len(parts),
        "values": [reading.value for reading in parts.values()],
        "text": [plain(reading, reading.value) for reading in parts.values()],
        "textinfo": "label+text",
        "hovertemplate": "%{label}<br>%{text}<extra></extra>",
        "marker": {"colors": _colors(parts), "pad": dict.fromkeys("tlrb", 0), "line": {"width": 0}},
        "root": {"color": "rgba(0,0,0,0)"},
        "tiling": {"pad": 2},
        "pathbar": {"visible": False},
        "domain": {"x": [0, sides[1]], "y": [0, sides[1]]},
        "sort": True,
    }
    outlines = [
        {"type": "rect", "xref": "paper", "yref": "paper", "x0": 0, "y0": 0, "x1": side, "y1": side}
        | {"line": {"color": color, "width": 2, "dash": dash}}
        for side, color, dash in zip(sides, (ORIGINAL, INK), ("dot", "solid"), strict=True)
    ]
    told = {words["before"]: before, words["now"]: now}
    lines = [f"{each} {plain(reading, reading.value)}" for each, reading in told.items()]
    beside = sides[1] < 0.75
    notes = [
        label(lines[0], 1, 1, xanchor="right", yanchor="bottom", font={"color": ORIGINAL}),
        label(f"<b>{lines[1]}</b>", *((sides[1], 0) if beside else (0, 1)), xanchor="left", yanchor="bottom")
        | {"xshift": 8 * beside},
    ]
    layout = {"margin": {"l": 4, "r": 4, "t": 24, "b": 4}, "shapes": outlines, "annotations": notes}
    return Picture(
        name=name, title=title, note=note, data=[data], layout=layout, told=[*parts.items(), *told.items()], height=320
    )


def bars(name: str, title: str, note: str, rows: Named, unit: str) -> Picture:
    """One bar each from 0, with its interval where it has one, and its value at the end."""
    values = [reading.value for reading in rows.values()]
    data = {
        "type": "bar",
        "orientation": "h",
        "y": [escape(row) for row in rows],
        "x": values,
        "marker": {"color": COMPRESSED},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "color": INK,
            "thickness": 1.5,
            "width": 4,
            **_ends(rows.values()),
        },
        "hovertemplate": "%{y}: %{text}<extra></extra>",
        "text": [plain(reading, reading.value) for reading in rows.values()],
        "textposition": "none",
    }
    tops = [max((v for v in (each.value, each.high or 0.0) if math.isfinite(v)), default=0.0) for each in rows.values()]
    ends = [_beside(row, plain(each, each.value), top) for (row, each), top in zip(rows.items(), tops, strict=True)]
    reach = max(tops, default=0.0) * 1.15 or 1.0
    layout = {"xaxis": axis(unit, range=[0, reach]), "yaxis": names(), "annotations": ends, "bargap": 0.4}
    return Picture(
        name=name, title=title, note=note, data=[data], layout=layout, told=[*rows.items()], height=60 + 34 * len(rows)
    )


def stacks(
    name: str, title: str, note: str, rows: Mapping[str, Named], limits: Named, limit: str, unit: str
) -> Picture:
    """One bar for each row, of its parts; `limits`, what each row takes at least, are strokes across it, called
    `limit`."""
    parts = list(dict.fromkeys(part for row in rows.values() for part in row))
    data: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": escape(part),
            "y": [escape(row) for row in rows],
            "x": [row[part].value for row in rows.values()],
            "text": [plain(row[part], row[part].value) for row in rows.values()],
            "textposition": "inside",
            "insidetextanchor": "middle",
            "textangle": 0,
            "hovertemplate": f"{escape(part)}: %{{text}}<extra>%{{y}}</extra>",
            "marker": {"color": color, "line": {"color": PAPER, "width": 1}},
        }
        for part, color in zip(parts, _colors(parts), strict=True)
    ]
    if limits:
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": limit,
                "x": [reading.value for reading in limits.values()],
                "y": [escape(row) for row in limits],
                "text": [plain(reading, reading.value) for reading in limits.values()],
                "hovertemplate": f"{limit}: %{{text}}<extra>%{{y}}</extra>",
                "marker": {"symbol": "line-ns", "size": 62, "line": {"width": 4, "color": INK}},
            }
        )
    told = [(f"{row}, {part}", reading) for row, named in rows.items() for part, reading in named.items()]
    told += [(f"{row}, {limit}", reading) for row, reading in limits.items()]
    layout = {
        "barmode": "stack",
        "uniformtext": {"minsize": 9, "mode": "hide"},  # what does not fit is in the table
        "xaxis": axis(unit, rangemode="tozero"),
        "yaxis": names(),
        "showlegend": True,
        "legend": LEGEND,
        "margin": {"l": 8, "r": 16, "t": 40, "b": 40},
        "bargap": 0.35,
    }
    height = 100 + 74 * len(rows)
    return Picture(name=name, title=title, note=note, data=data, layout=layout, told=told, height=height)


def waterfall(
    name: str, title: str, note: str, start: Named, steps: Named, end: Named, unit: str, scale: float = 1.0
) -> Picture:
    """From `start` (nothing where that is 0) by steps, each from where the last one ended, to `end`. Values are divided
    by `scale` for the axis."""
    rows = [("absolute", start), ("relative", steps), ("total", end)]
    every = [(row, reading, kind) for kind, named in rows for row, reading in named.items()]
    data = {
        "type": "waterfall",
        "orientation": "h",
        "y": [escape(row) for row, _, _ in every],
        "x": [reading.value / scale for _, reading, _ in every],
        "measure": [kind for _, _, kind in every],
        "text": [_signed(reading, kind == "relative") for _, reading, kind in every],
        "textposition": "none",
        "hovertemplate": "%{y}: %{text}<extra></extra>",
        "connector": {"line": {"color": SOFT, "width": 1, "dash": "dot"}},
        "increasing": {"marker": {"color": COMPRESSED}},
        "decreasing": {"marker": {"color": PARTS[2]}},
        "totals": {"marker": {"color": ORIGINAL}},
    }
    stops, ends = [0.0], []
    for row, reading, kind in every:
        before = stops[-1] if kind == "relative" else 0.0
        stops.append(before + reading.value / scale)
        known = [value for value in (before, stops[-1]) if math.isfinite(value)]
        ends.append(_beside(row, _signed(reading, kind == "relative"), max(known, default=0.0)))
    known = [value for value in stops if math.isfinite(value)]
    room = 0.16 * (max(known) - min(known) or 1.0)
    reach = [min(known) - room * (min(known) < 0), max(known) + room]
    layout = {"xaxis": axis(unit, range=reach), "yaxis": names(), "annotations": ends}
    told = [(row, reading) for row, reading, _ in every]
    height = 60 + 34 * len(every)
    return Picture(name=name, title=title, note=note, data=[data], layout=layout, told=told, height=height)


def grid(
    name: str,
    title: str,
    note: str,
    cells: Mapping[tuple[str, str], tuple[float, str, Reading]],
    colors: Mapping[str, Any],
) -> Picture:
    """A coloured grid of (row, column) → (place on the scale, words, Reading). `colors`: plotly's colour scale, its
    ends, and a bar of it where wanted."""
    rows, columns = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
    every = [[cells.get((row, column)) for column in columns] for row in rows]
    data = {
        "type": "heatmap",
        "x": [escape(column) for column in columns],
        "y": [escape(row) for row in rows],
        "z": [[cell[0] if cell else None for cell in line] for line in every],
        "text": [[cell[1] if cell else "" for cell in line] for line in every],
        "hovertext": [[plain(cell[2], cell[2].value) if cell else "" for cell in line] for line in every],
        "hovertemplate": "%{y}, %{x}: %{hovertext}<extra></extra>",
        "hoverongaps": False,
        "texttemplate": "%{text}",
        "xgap": 1,
        "ygap": 1,
        "showscale": "colorbar" in colors,
        **colors,
    }
    layout = {"xaxis": axis(type="category", showgrid=False, side="bottom"), "yaxis": names()}
    told = [(f"{row}, {column}", cell[2]) for (row, column), cell in cells.items()]
    height = 60 + 34 * len(rows)
    return Picture(name=name, title=title, note=note, data=[data], layout=layout, told=told, height=height)


def pairs(name: str, title: str, note: str, sides: Mapping[str, Named], unit: str) -> Picture:
    """Two or more values a row on one logarithmic axis, joined by a line: so different that bars of one scale would
    not be seen. `sides`: whose value it is → row → Reading; what is not above 0 has no place."""
    rows = list(dict.fromkeys(row for side in sides.values() for row in side))
    placed = {row: [side[row].value for side in sides.values() if row in side and side[row].value > 0] for row in rows}
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [x for row in rows for x in (min(placed[row], default=None), max(placed[row], default=None), None)],
            "y": [y for row in rows for y in (escape(row), escape(row), None)],
            "line": {"color": GRID, "width": 3},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]
    for (side, values), color, symbol in zip(sides.items(), (ORIGINAL, COMPRESSED, *PARTS[2:]), SYMBOLS, strict=False):
        data.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "name": escape(side),
                "x": [values[row].value if values[row].value > 0 else None for row in rows],
                "y": [escape(row) for row in rows],
                "text": [plain(values[row], values[row].value) for row in rows],
                "textposition": [_aside(values[row].value, placed[row]) for row in rows],
                "cliponaxis": False,
                "hovertemplate": f"%{{y}}: %{{text}}<extra>{escape(side)}</extra>",
                "marker": {"color": color, "size": 13, "symbol": symbol},
            }
        )
    known = [math.log10(value) for values in placed.values() for value in values]
    low, high = min(known, default=0.0), max(known, default=1.0)
    reach = [low - 0.22 * (high - low + 1), high + 0.22 * (high - low + 1)]  # the words beside them
    layout = {
        "xaxis": axis(unit, type="log", range=reach, dtick=1, exponentformat="none"),
        "yaxis": names(),
        "showlegend": True,
        "legend": LEGEND,
        "margin": {"l": 8, "r": 16, "t": 44, "b": 40},
    }
    told = [(f"{row}, {side}", values[row]) for side, values in sides.items() for row in rows]
    height = 110 + 44 * len(rows)
    return Picture(name=name, title=title, note=note, data=data, layout=layout, told=told, height=height)


def curves(
    name: str,
    title: str,
    note: str,
    xs: Sequence[float],
    lines: Mapping[str, tuple[Sequence[float], Sequence[str]]],
    axes: tuple[Mapping[str, Any], Mapping[str, Any]],
    told: Sequence[tuple[str, Reading]],
    strokes: Sequence[float] = (),
    stroke: str = "",
) -> Picture:
    """Lines over the same `xs`, each with what its points say; `strokes` are upright lines, called `stroke`; `told`:
    what is said of them."""
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": line,
            "x": list(xs),
            "y": list(values),
            "text": list(texts),
            "hovertemplate": f"%{{x:.4g}}: %{{text}}<extra>{line}</extra>",
            "line": {"color": color, "width": 2, "dash": dash, "shape": "hvh"},
        }
        for (line, (values, texts)), color, dash in zip(
            lines.items(), (ORIGINAL, COMPRESSED), ("solid", "dash"), strict=False
        )
    ]
    if strokes:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": stroke,
                "x": [x for each in strokes for x in (each, each, None)],
                "y": [y for _ in strokes for y in (0, 1, None)],
                "yaxis": "y2",
                "line": {"color": SOFT, "width": 1},
                "hovertemplate": f"%{{x:.4g}}<extra>{stroke}</extra>",
            }
        )
    layout = {
        "xaxis": axis(**axes[0]),
        "yaxis": axis(**axes[1]),
        "yaxis2": axis(range=[0, 1], overlaying="y", visible=False),
        "showlegend": True,
        "legend": LEGEND,
        "margin": {"l": 8, "r": 16, "t": 40, "b": 40},
    }
    return Picture(name=name, title=title, note=note, data=data, layout=layout, told=told, height=300)


def _colors(parts: Iterable[str]) -> list[str]:
    return [PARTS[i % len(PARTS)] for i, _ in enumerate(parts)]


def _aside(value: float, row: Sequence[float]) -> str:
    """Words stand outside of a pair."""
    return "middle left" if value == min(row, default=value) and len(row) > 1 else "middle right"


def _ends(readings: Iterable[Reading]) -> dict[str, list[float]]:
    """How far the interval reaches to either side."""
    some = [
        (r.value, r.low if r.low is not None else r.value, r.high if r.high is not None else r.value) for r in readings
    ]
    return {"array": [high - value for value, _, high in some], "arrayminus": [value - low for value, low, _ in some]}


def _signed(reading: Reading, relative: bool) -> str:
    sign = "+" if relative and reading.value > 0 else ""
    return f"{sign}{plain(reading, reading.value)}".replace("-", "−")
