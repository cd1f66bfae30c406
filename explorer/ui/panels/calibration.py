"""How far the calibration is; and, once the curves are known, the sliders' own tracks: coloured by the KL that was
measured along each, with a line where the difference begins to show and one where the text breaks.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from explorer.ui.color import color
from explorer.ui.stage import QUICK, Stage, html
from explorer.ui.words import words
from explorer.values.ranges import BITS, RANGES
from explorer.workbench.curves import between
from explorer.workbench.workbench import Workbench

WORDS = words("calibration")
LOOK_SECONDS = 2
SHOWS, BREAKS = 0.1, 1.0  # nats
SHARES = {"sparsity": 0.0, "keep": 1.0}  # sliders, and where the original is
STEPS = 24


def place(stage: Stage) -> None:
    """Asked every two seconds until all is known."""
    learned = html("", elem_id="calibration")

    def look() -> Any:
        told, done = progress(stage.desk.bench)
        return told, gr.Timer(active=not done)

    def arrows() -> None:
        clock = gr.Timer(LOOK_SECONDS)
        clock.tick(look, None, [learned, clock], api_visibility="private", **QUICK)

    stage.later(arrows)


def progress(bench: Workbench) -> tuple[str, bool]:
    """What the page says of the calibration, and whether it is done."""
    there = bench.ready.is_set()
    share, tokens = bench.prepared, bench.facts.tokens if there else 0
    if there and bench.preparation.note:
        return _bar(bench.preparation.note, share), True
    if share == 1.0:
        curves = bench.curves
        name = "calibrated" if curves.done == 1 else "curves"
        told = WORDS.say(name, tokens=f"{tokens:,}", share=f"{curves.done:.0%}".replace("%", " %"))
        return _bar(told, 1.0) + style(curves.whole), curves.done == 1
    told = WORDS.say("calibrating_more", tokens=f"{tokens:,}") if tokens else WORDS.say("calibrating")
    return _bar(f"{told} {share:.0%}".replace("%", " %"), share), False


def _bar(sentence: str, share: float) -> str:
    """The width of the bar is the share done."""
    return (
        f'<p class="calibration" data-done="{share:.2f}"><span class="bar"><i style="width:{share:.0%}"></i></span>'
        f"{escape(sentence)}</p>"
    )


def style(points: Mapping[str, dict[float, float]]) -> str:
    """Style rules for the controls whose curve is known, with what the marks mean in words after each explanation."""
    rules = []
    for name, rest in SHARES.items():
        known = points[name] | {rest: 1e-4}
        if len(known) > 2:
            range_ = RANGES[name]
            places = [range_.low + (range_.high - range_.low) * i / STEPS for i in range(STEPS + 1)]
            values = [between(known, place) for place in places]
            values = values[::-1] if rest == range_.high else values  # the original is at the left
            rules.append(f"#{name} {{ --track: {_gradient(values)}; }}")
            rules.append(_told(name, known, rest))
    for name in ("bits", "head_bits"):
        if not points[name]:
            continue
        levels = [1e-4 if bits == 16 else points[name].get(bits) for bits in BITS]
        rules.append(f"#{name} {{ --track: {_gradient(levels)}; }}")
        rules.append(_told(name, points[name] | {16: 1e-4}, 16))
    return f"<style>{' '.join(rules)}</style>" if rules else ""


def crossing(points: Mapping[float, float], rest: float, level: float) -> float | None:
    """The value nearest to where the original is at which the KL is above `level`; None where it never is."""
    beyond = [value for value, kl in points.items() if kl > level]
    return min(beyond, key=lambda value: abs(value - rest)) if beyond else None


def _told(name: str, points: Mapping[float, float], rest: float) -> str:
    told = WORDS["landscape"]
    parts = []
    for word, level in (("shows", SHOWS), ("breaks", BREAKS)):
        at = crossing(points, rest, level)
        if at is not None:
            parts.append(told[word].format(value=f"{100 * at:.0f}" if name in SHARES else f"{at:g}"))
    if not parts:
        return ""
    text, sentence = f"#{name} .info-text", told[name].format(", ".join(parts))
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
