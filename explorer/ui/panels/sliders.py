"""The controls of a recipe, made from its ranges. Raw values only: `asks` brings them into range."""

from html import escape
from typing import Any

import gradio as gr

from explorer.ui.asks import AUTO, FIRST_STOP, Controls, stop_of
from explorer.ui.markup import why
from explorer.ui.stage import OWN, Stage, html
from explorer.ui.words import words
from explorer.values.ranges import BITS, CHOICES, KEEP, RANGES, SPARSITY, Range

WORDS = words("sliders")
MOST_HEALING = 300  # steps on the page, a few seconds each; the command line takes more


def place(stage: Stage) -> None:
    """A move is previewed at once; the weights follow when it rests."""
    stage.recipe += main_controls()
    with gr.Accordion(WORDS["more"], open=False, elem_id="more"):
        html(f'<p class="source">{escape(WORDS["hint"])}{why("methods")}</p>')
        stage.recipe += method_controls()

    def arrows() -> None:
        moved = [c.submit if isinstance(c, gr.Textbox) else c.input for c in stage.recipe]
        stage.preview(moved, trigger_mode="always_last", api_name="preview", **OWN)
        stage.run(moved, moved=True, name="apply", js="(...values) => window.rested(values)")

    stage.later(arrows)


def main_controls() -> list[Any]:
    """The controls that are always seen, in the order of `Controls`."""
    return [
        _percent("sparsity", SPARSITY, 0),
        _bits("bits"),
        _percent("keep", KEEP, 100),
        _bits("head_bits"),
        _choice("level", ["live", "best"], "live"),
    ]


def method_controls() -> list[Any]:
    """The rest of a recipe, in the order of `Controls`."""
    return [
        _pick("group"),
        _pick("prune"),
        _pick("pattern"),
        _pick("scope"),
        _pick("quant"),
        _check("double"),
        _pick("factorize"),
        _pick("allocate"),
        _percent("depth", RANGES["depth"], 0),
        _pick("depth_by"),
        _percent("width", RANGES["width"], 0),
        _pick("width_by"),
        _percent("heads", RANGES["heads"], 0),
        _steps("residual_rank", RANGES["residual_rank"].high),
        _check("rotate"),
        _steps("heal", MOST_HEALING),
        _steps("heal_rate", RANGES["heal_rate"].high, 1),
        _steps("heal_seed", RANGES["heal_seed"].high),
        *(
            gr.Textbox("", label=WORDS[name], placeholder=WORDS[f"{name}_info"], max_lines=1, elem_id=name)
            for name in ("layers", "protect")
        ),
    ]


def _percent(name: str, range_: Range, value: int) -> gr.Slider:
    low, high, step = (round(100 * part) for part in (range_.low, range_.high, range_.step))
    return gr.Slider(low, high, value, step=step, **_named(name))


def _steps(name: str, high: float, value: float = 0) -> gr.Slider:
    return gr.Slider(RANGES[name].low, high, value, step=RANGES[name].step, **_named(name))


def _check(name: str) -> gr.Checkbox:
    return gr.Checkbox(False, **_named(name))


def _bits(name: str) -> gr.Slider:
    """A slider whose stops are the widths there are, and below it a button for each, which the page's script serves."""
    slider = gr.Slider(FIRST_STOP, FIRST_STOP + len(BITS) - 1, FIRST_STOP, step=1, **_named(name, "knob stops"))
    ticks = "".join(f'<button type="button" tabindex="-1" data-stop="{stop_of(bits)}">{bits}</button>' for bits in BITS)
    html(f'<div class="ticks" data-for="{name}" role="group" aria-label="{WORDS[name]}">{ticks}</div>')
    return slider


def _choice(name: str, options: list[str], value: str) -> gr.Radio:
    return gr.Radio(options, value=value, **_named(name, "knob segments"))


def _pick(name: str) -> gr.Dropdown:
    automatic = [AUTO] if name in ("prune", "quant", "factorize") else []
    choices = [*automatic, *CHOICES[name]]
    return gr.Dropdown(choices, value=getattr(Controls(), name), filterable=False, **_named(name))


def _named(name: str, classes: str = "knob") -> dict[str, Any]:
    """What a control is called, and what it is found by."""
    return {"label": WORDS[name], "info": WORDS[f"{name}_info"], "elem_id": name, "elem_classes": classes}
