"""The sliders' own tracks: coloured by the KL that was measured along each, with a line where the difference begins to
show (the knee) and one where the text breaks (the cliff). Made of numbers only."""

import math
from collections.abc import Mapping, Sequence

from explorer.curves import between
from explorer.recipe import BITS, RANGES
from explorer.ui.views import WORDS

SHOWS, BREAKS = 0.1, 1.0  # nats
SCALE = (
    (0.003, (0, 114, 178)),
    (0.1, (230, 194, 41)),
    (1.0, (194, 78, 0)),
    (4.0, (90, 20, 20)),
)  # KL → RGB
SHARES = {"sparsity": 0.0, "keep": 1.0}  # sliders, and where the original is
STEPS = 24


def style(points: Mapping[str, dict[float, float]]) -> str:
    """Style rules for the controls whose curve is known, with what the marks mean in words after each explanation."""
    rules = []
    for name, rest in SHARES.items():
        known = points[name] | {rest: 1e-4}
        if len(known) > 2:
            range_ = RANGES[name]
            places = [range_.low + (range_.high - range_.low) * i / STEPS for i in range(STEPS + 1)]
            values = [between(known, place) for place in places]
            rules.append(f"#{name} {{ --track: {_gradient(values)}; }}")
            rules.append(_told(name, known, rest))
    for name in ("bits", "head_bits"):
        if not points[name]:
            continue
        shown = [b for b in BITS if b != 7]
        for number, bits in enumerate(shown, 1):
            value = 1e-4 if bits == 16 else points[name].get(bits)
            if value is not None:
                rules.append(f"#{name} label:nth-of-type({number}) {{ --level: {color(value)}; }}")
        rules.append(_told(name, points[name] | {16: 1e-4}, 16))
    return f"<style>{' '.join(rules)}</style>" if rules else ""


def crossing(points: Mapping[float, float], rest: float, level: float) -> float | None:
    """The value nearest to where the original is at which the KL is above `level`; None where it never is."""
    beyond = [value for value, kl in points.items() if kl > level]
    return min(beyond, key=lambda value: abs(value - rest)) if beyond else None


def _told(name: str, points: Mapping[float, float], rest: float) -> str:
    words = WORDS["landscape"]
    parts = []
    for word, level in (("shows", SHOWS), ("breaks", BREAKS)):
        at = crossing(points, rest, level)
        if at is not None:
            parts.append(words[word].format(value=f"{100 * at:.0f}" if name in SHARES else f"{at:g}"))
    if not parts:
        return ""
    text, sentence = f"#{name} .info-text", words[name].format(", ".join(parts))
    after = f'content: "{sentence}"; font-size: 12px; white-space: nowrap;'
    return f"{text} {{ font-size: 0 !important; }} {text}::after {{ {after} }}"


def _gradient(values: Sequence[float | None]) -> str:
    """Stops from left to right; a dark line wherever a level is crossed."""
    stops, last = list[str](), None
    for i, value in enumerate(values):
        at = 100 * i / (len(values) - 1)
        if value is None:
            continue
        if last is not None and any(min(last, value) <= level < max(last, value) for level in (SHOWS, BREAKS)):
            stops += [f"#111 {at - 1.2:.1f}%", f"#111 {at:.1f}%"]
        stops.append(f"{color(value)} {at:.1f}%")
        last = value
    return f"linear-gradient(to right, {', '.join(stops)})"


def color(kl: float) -> str:
    """Blue is near the original, yellow shows, orange breaks, dark is gone (or no number): lightness tells without
    colour."""
    ends = [(math.log(level), color) for level, color in SCALE]
    at = min(max(math.log(max(kl, 1e-9)), ends[0][0]), ends[-1][0]) if math.isfinite(kl) else ends[-1][0]
    high = next(i for i, (level, _) in enumerate(ends) if at <= level)
    (start, one), (end, other) = ends[max(high - 1, 0)], ends[high]
    share = (at - start) / (end - start) if end > start else 0.0
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(one, other, strict=True))
