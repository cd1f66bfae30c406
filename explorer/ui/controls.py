"""The page's controls, made from the recipe's ranges. Raw values only: handlers bring them into range."""

from typing import Any

import gradio as gr

from explorer import catalogue, takes
from explorer.presets import PRESETS
from explorer.recipe import BITS, CHOICES, KEEP, RANGES, SPARSITY, Range
from explorer.ui import takes_page
from explorer.ui.asks import AUTO, Controls
from explorer.ui.views import WORDS

LARGE = "tiiuae/falcon-180B"  # what a small one is set beside at first
MOST_HEALING = 300  # steps on the page, a few seconds each; the command line takes more
TEXT: dict[str, str] = WORDS["controls"]


def presets() -> dict[str, gr.Button]:
    """One button a preset."""
    with gr.Row(elem_classes="presets"):
        return {name: gr.Button(name, size="sm", min_width=80) for name in PRESETS}


def main_controls() -> list[Any]:
    """The controls that are always seen, in the order of `Controls`."""
    return [
        _percent("sparsity", SPARSITY, 0),
        _choice("bits", [str(b) for b in BITS if b != 7], "16"),
        _percent("keep", KEEP, 100),
        _choice("head_bits", [str(b) for b in BITS if b != 7], "16"),
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
            gr.Textbox("", label=TEXT[name], placeholder=TEXT[f"{name}_info"], max_lines=1, elem_id=name)
            for name in ("layers", "protect")
        ),
    ]


def prompt_controls() -> list[Any]:
    """Prompt, length, seed, temperature and chat template, in the order of `Controls`."""
    plain = Controls()
    prompt = gr.Textbox(
        value=TEXT["first_prompt"],
        placeholder=TEXT["prompt_placeholder"],
        label=TEXT["prompt"],
        lines=1,
        max_lines=3,
        max_length=20_000,
        scale=6,
        elem_id="prompt",
    )
    with gr.Row(elem_classes="how", scale=4):
        length = gr.Number(plain.length, label=TEXT["length"], precision=0, min_width=64, elem_id="length")
        seed = gr.Number(plain.seed, label=TEXT["seed"], precision=0, min_width=64, elem_id="seed")
        temperature = gr.Number(
            plain.temperature, label=TEXT["temperature"], step=0.1, min_width=64, elem_id="temperature"
        )
        chat = gr.Checkbox(plain.chat, label=TEXT["chat"], min_width=64, elem_id="chat")
    return [prompt, length, seed, temperature, chat]


def rival_control() -> gr.Textbox:
    """The name of a second model."""
    words = WORDS["rival"]
    options: dict[str, Any] = {"max_lines": 1, "max_length": 300, "min_width": 320, "scale": 0}
    return gr.Textbox("", label=words["name"], placeholder=words["placeholder"], elem_id="rival-name", **options)


def budget_controls() -> list[gr.Number]:
    """Million bytes, milliseconds a token, nats; empty is no limit."""
    names = ("size", "ms", "kl")
    return [gr.Number(None, label=WORDS["budget"][n], min_width=140, scale=0, elem_id=f"budget-{n}") for n in names]


def takes_controls(model: str) -> list[Any]:
    """Two models of the catalogue, bits, context and traffic; the first is the one that is open, where it is there."""
    words, names = WORDS["takes"], takes_page.names()
    here = catalogue.find(model.removesuffix("-Instruct"))
    return [
        gr.Dropdown(names, value=here.id if here else names[0], label=words["first"], elem_id="takes-first"),
        gr.Dropdown(names, value=LARGE, label=words["second"], elem_id="takes-second"),
        gr.Dropdown([str(b) for b in takes.BITS], value="16", label=words["bits"], elem_id="takes-bits"),
        gr.Number(2048, label=words["context"], precision=0, elem_id="takes-context"),
        gr.Number(100, label=words["traffic"], elem_id="takes-traffic"),
    ]


def _percent(name: str, range_: Range, value: int) -> gr.Slider:
    low, high, step = (round(100 * part) for part in (range_.low, range_.high, range_.step))
    return gr.Slider(
        low,
        high,
        value,
        step=step,
        label=TEXT[name],
        info=TEXT[f"{name}_info"],
        elem_id=name,
        elem_classes="knob",
    )


def _check(name: str) -> gr.Checkbox:
    return gr.Checkbox(False, label=TEXT[name], info=TEXT[f"{name}_info"], elem_id=name, elem_classes="knob")


def _steps(name: str, high: float, value: float = 0) -> gr.Slider:
    range_ = RANGES[name]
    return gr.Slider(
        range_.low,
        high,
        value,
        step=range_.step,
        label=TEXT[name],
        info=TEXT[f"{name}_info"],
        elem_id=name,
        elem_classes="knob",
    )


def _choice(name: str, options: list[str], value: str) -> gr.Radio:
    return gr.Radio(
        options,
        value=value,
        label=TEXT[name],
        info=TEXT[f"{name}_info"],
        elem_id=name,
        elem_classes="knob segments",
    )


def _pick(name: str) -> gr.Dropdown:
    choices = list(CHOICES[name])
    automatic = [AUTO] if name in ("prune", "quant", "factorize") else []
    return gr.Dropdown(
        [*automatic, *choices],
        value=getattr(Controls(), name),
        label=TEXT[name],
        info=TEXT[f"{name}_info"],
        elem_id=name,
        elem_classes="knob",
        filterable=False,
    )
