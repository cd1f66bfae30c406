"""Pictures of a report: SVG that stands for itself, no script, nothing from outside. Values are finite or drawn at the
edge; colours are Okabe and Ito's, which the colour-blind tell apart, and shape or hatching tells without them."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from explorer.values.reading import Reading
from explorer.values.units import plain

WIDTH = 680.0
BLUE, ORANGE, GREEN, YELLOW, PINK = "#0072B2", "#D55E00", "#009E73", "#F0E442", "#CC79A7"
COLOURS = (BLUE, YELLOW, GREEN, ORANGE, PINK)
INK, GREY, PALE = "#1e293b", "#475569", "#e2e8f0"
LEVELS = (0.5, 0.7, 0.8, 0.9, 0.95, 1, 1.02, 1.05, 1.1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100)
HIGHEST = 100.0  # times the original's perplexity; what is above stands at the edge
Kind = Literal["tried", "chosen", "original"]
Box = tuple[float, float, float, float]
Scale = Callable[[float], float]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One setting: x in MB, y in multiples of the original's perplexity; not a number stands at the upper edge."""

    name: str
    x: float
    y: float
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar, with its 95 % interval where it has one."""

    name: str
    reading: Reading


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One bar of several parts, and what they add up to."""

    name: str
    parts: tuple[Reading, ...]
    total: Reading


def plane(points: Sequence[Point], title: str, x: str, y: str, kinds: Mapping[str, str]) -> str:
    """Size against perplexity (log), with the line of the points that no other beats in both. Titles of the picture and
    of the axes; `kinds`: what the legend calls each kind, `front` and `off`, what lies beyond the scale."""
    left, right, top, bottom = 58.0, WIDTH - 16, 34.0, 300.0
    heights = {point: min(point.y, HIGHEST) if point.y == point.y else HIGHEST for point in points}
    lowest, highest = min(1.0, *heights.values()) * 0.985, max(1.05, *heights.values()) * 1.04
    steps = ticks(max(point.x for point in points) * 1.06)

    def across(value: float) -> float:
        return left + (right - left) * value / (max(point.x for point in points) * 1.06)

    def down(value: float) -> float:
        return bottom - (bottom - top) * math.log(value / lowest) / math.log(highest / lowest)

    parts = [_grid(across(step), top, across(step), bottom) for step in steps]
    parts += [_text(across(step), bottom + 16, f"{step:g}", "middle") for step in steps]
    for level in _apart([each for each in LEVELS if lowest <= each <= highest], down):
        parts += [_grid(left, down(level), right, down(level)), _text(left - 6, down(level) + 4, f"{level:g}×", "end")]
    parts.append(_text((left + right) / 2, bottom + 36, x, "middle"))
    parts.append(_text(14, (top + bottom) / 2, y, "middle", turn=True))
    parts.append(_front([(each.x, heights[each]) for each in points], across, down))
    taken = [(across(each.x) - 8, down(heights[each]) - 8, 16.0, 16.0) for each in points]
    for point in sorted(points, key=lambda each: each.kind == "chosen"):
        place = across(point.x), down(heights[point])
        off = not point.y <= HIGHEST
        parts += [_mark(*place, point.kind, off), _label(place, point, taken, (left, top, right, bottom))]
    return _svg(title, 346, parts + [*_legend(points, kinds, left)])


def bars(some: Sequence[Bar], title: str, x: str) -> str:
    """Horizontal bars with intervals and their values; a value that is no number has no bar."""
    left, right, top, each = 150.0, WIDTH - 90, 8.0, 26.0
    known = [end for bar in some for end in (bar.reading.value, bar.reading.high) if end is not None]
    reach = max((end for end in known if math.isfinite(end)), default=0.0) * 1.04 or 1.0
    bottom = top + each * len(some)

    def across(value: float) -> float:
        return left + (right - left) * min(max(value, 0.0), reach) / reach

    parts = [_grid(across(step), top, across(step), bottom) for step in ticks(reach)]
    parts += [_text(across(step), bottom + 16, f"{step:g}", "middle") for step in ticks(reach)]
    for place, bar in enumerate(some):
        middle, reading = top + each * (place + 0.5), bar.reading
        edge = across(reading.value) if math.isfinite(reading.value) else left
        parts += [_text(left - 8, middle + 4, bar.name, "end"), _rect(left, middle - 7, edge - left, 14, BLUE)]
        if reading.low is not None and reading.high is not None:
            low, edge = across(reading.low), across(reading.high)
            path = f"M{low:.1f} {middle - 4:.1f}v8M{low:.1f} {middle:.1f}H{edge:.1f}M{edge:.1f} {middle - 4:.1f}v8"
            parts.append(f'<path d="{path}" stroke="{INK}" stroke-width="1.6" fill="none"/>')
        parts.append(_text(edge + 7, middle + 4, plain(reading, reading.value)))
    parts.append(_text((left + right) / 2, bottom + 36, x, "middle"))
    return _svg(title, bottom + 46, parts)


def stacks(some: Sequence[Stack], names: Sequence[str], title: str, x: str) -> str:
    """Horizontal bars of up to five parts each, on one scale, with their sums and a legend."""
    left, right, top, each = 190.0, WIDTH - 84, 34.0, 34.0
    reach = max(stack.total.value for stack in some) or 1.0
    bottom = top + each * len(some)
    parts = []
    for step in ticks(reach):
        at = left + (right - left) * step / reach
        parts += [_grid(at, top, at, bottom), _text(at, bottom + 16, f"{step:,g}", "middle")]
    for place, stack in enumerate(some):
        start, middle = left, top + each * (place + 0.5)
        parts.append(_text(left - 8, middle + 4, stack.name, "end"))
        for reading, colour in zip(stack.parts, COLOURS, strict=True):
            length = (right - left) * reading.value / reach
            parts.append(_rect(start, middle - 10, length, 20, colour, edge="white" if length > 3 else "none"))
            start += length
        parts.append(_text(start + 7, middle + 4, plain(stack.total, stack.total.value)))
    at = left
    for name, colour in zip(names, COLOURS, strict=True):
        parts += [_rect(at, 8, 11, 11, colour), _text(at + 15, 18, name)]
        at += 28 + 6.4 * len(name)
    parts.append(_text((left + right) / 2, bottom + 36, x, "middle"))
    return _svg(title, bottom + 46, parts)


def ticks(reach: float) -> list[float]:
    """0 and about five round numbers up to `reach`."""
    rough = reach / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in (1, 2, 2.5, 5, 10) if power * each >= rough)
    return [round(step * i, 12) for i in range(int(reach / step + 1e-9) + 1)]


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that no other beats in both, smallest first."""
    best: list[tuple[float, float]] = []
    for point in sorted(points):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return best


def _front(points: Sequence[tuple[float, float]], across: Scale, down: Scale) -> str:
    first, *rest = front(points)
    path = f"M{across(first[0]):.1f} {down(first[1]):.1f}"
    path += "".join(f"H{across(x):.1f}V{down(y):.1f}" for x, y in rest)
    return f'<path d="{path}" stroke="{GREY}" stroke-width="1.5" stroke-dasharray="2 4" fill="none"/>'


def _mark(x: float, y: float, kind: str, off: bool = False) -> str:
    colour = {"tried": GREY, "chosen": ORANGE, "original": BLUE}[kind]
    if off:
        return f'<path d="M{x:.1f} {y - 7:.1f}l7 12h-14z" fill="{colour}" stroke="white"/>'
    if kind == "original":
        return _rect(x - 6, y - 6, 12, 12, colour, edge="white")
    if kind == "tried":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}" stroke="white"/>'
    corners = ((i % 2 * 5.4 - 10 * (1 - i % 2), math.pi * i / 5) for i in range(10))
    star = " ".join(f"{x - abs(r) * math.sin(a):.1f},{y - abs(r) * math.cos(a):.1f}" for r, a in corners)
    return f'<polygon points="{star}" fill="{colour}" stroke="white"/>'


def _label(place: tuple[float, float], point: Point, taken: list[Box], room: Box) -> str:
    """The name beside its mark, where nothing stands yet."""
    wide, (x, y), bold = 7.2 * len(point.name), place, point.kind == "chosen"
    sides = (9.0, -9 - wide)
    spots = [
        (sides[0], 4),
        (sides[1], 4),
        (-wide / 2, -11),
        (-wide / 2, 20),
        *((s, up) for up in (-8, 16) for s in sides),
    ]
    boxes = [(x + dx, y + dy - 11, wide, 13.0) for dx, dy in spots]
    free = [box for box in boxes if not any(_meet(box, other) for other in taken) and _inside(box, room)]
    box = (free or boxes)[0]
    taken.append(box)
    return _text(box[0], box[1] + 11, point.name, bold=bold)


def _meet(one: Box, other: Box) -> bool:
    return all(one[i] < other[i] + other[i + 2] and other[i] < one[i] + one[i + 2] for i in (0, 1))


def _inside(box: Box, room: Box) -> bool:
    left, top, right, bottom = room
    return box[0] >= left and box[1] >= top - 12 and box[0] + box[2] <= right and box[1] + box[3] <= bottom


def _legend(points: Sequence[Point], kinds: Mapping[str, str], at: float) -> Iterator[str]:
    shown = [kind for kind in ("original", "tried", "chosen") if any(point.kind == kind for point in points)]
    for kind in shown:
        yield _mark(at + 6, 14, kind) + _text(at + 17, 18, kinds[kind])
        at += 34 + 6.6 * len(kinds[kind])
    yield f'<path d="M{at:.1f} 14h22" stroke="{GREY}" stroke-width="1.5" stroke-dasharray="2 4"/>'
    yield _text(at + 28, 18, kinds["front"])
    at += 44 + 6.6 * len(kinds["front"])
    if any(not point.y <= HIGHEST for point in points):
        yield _mark(at + 6, 14, "tried", off=True) + _text(at + 17, 18, kinds["off"])


def _apart(levels: Sequence[float], down: Scale) -> list[float]:
    """Levels whose labels do not touch; 1 stays."""
    kept: list[float] = []
    for level in sorted(levels, key=lambda each: (each != 1, LEVELS.index(each) % 2, each)):
        if all(abs(down(level) - down(other)) > 20 for other in kept):
            kept.append(level)
    return kept


def _grid(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<path d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}" stroke="{PALE}"/>'


def _rect(x: float, y: float, wide: float, high: float, colour: str, edge: str = "none") -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(wide, 0):.1f}" height="{high:g}" fill="{colour}" stroke="{edge}"/>'
    )


def _text(x: float, y: float, words: str, anchor: str = "start", turn: bool = False, bold: bool = False) -> str:
    more = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
    more += ' font-weight="700"' if bold else ""
    more += ' stroke="white" stroke-width="3" paint-order="stroke"'  # so that a line behind does not strike it out
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(words)}</text>'


def _svg(title: str, height: float, parts: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" role="img" '
        f'aria-label="{escape(title)}" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="{INK}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
