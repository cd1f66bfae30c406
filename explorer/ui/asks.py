"""Values of the controls ↔ what one visit asks for. No gradio, no torch, no model."""

import math
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from explorer.values.prompt import Prompt
from explorer.values.ranges import BEST, BITS, DATA_FREE, RANGES, Range
from explorer.values.recipe import Recipe

AUTO = "auto"
FIRST_STOP = 100  # the sliders of bits count their stops from it, so that no stop is taken for a number of bits
PERCENT = ("sparsity", "keep", "depth", "width", "heads")
NUMBERS = ("residual_rank", "heal", "heal_rate", "heal_seed")
METHODS = ("prune", "quant", "factorize")


class Controls(NamedTuple):
    """Values of the controls, in the page's order and units (per cent)."""

    sparsity: Any = 0
    bits: Any = 16
    keep: Any = 100
    head_bits: Any = 16
    level: Any = "live"
    group: Any = AUTO
    prune: Any = AUTO
    pattern: Any = "unstructured"
    scope: Any = "row"
    quant: Any = AUTO
    double: Any = False
    factorize: Any = AUTO
    allocate: Any = "uniform"
    depth: Any = 0
    depth_by: Any = "influence"
    width: Any = 0
    width_by: Any = "nystrom"
    heads: Any = 0
    residual_rank: Any = 0
    rotate: Any = False
    heal: Any = 0
    heal_rate: Any = 1
    heal_seed: Any = 0
    layers: Any = ""
    protect: Any = ""
    prompt: Any = ""
    length: Any = 96
    seed: Any = 0
    temperature: Any = 0.0
    chat: Any = True


RECIPE_CONTROLS = Controls._fields[: Controls._fields.index("prompt")]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What one visit wants to see."""

    recipe: Recipe
    prompt: Prompt


def ask_from(values: Controls, calibrated: bool = True) -> Ask:
    """Control values → ask. Numbers out of range go to the nearest allowed one; other nonsense is a ValueError.

    A method left to `auto` is the best that the level and the calibration allow.
    """
    shares: dict[str, Any] = {
        name: _nearest(_number(getattr(values, name), _plain(name)) / 100, RANGES[name]) for name in PERCENT
    }
    methods = {name: str(getattr(values, name)) for name in METHODS}
    automatic = _automatic(values, shares, calibrated)
    words: dict[str, Any] = {name: automatic[name] if method == AUTO else method for name, method in methods.items()}
    words |= {
        name: str(getattr(values, name)) for name in ("group", "pattern", "scope", "allocate", "depth_by", "width_by")
    }
    numbers: dict[str, Any] = {
        name: _nearest(_number(getattr(values, name), _plain(name)), RANGES[name]) for name in NUMBERS
    }
    recipe = Recipe(
        **shares,
        **words,
        bits=_bits(values.bits),
        head_bits=_bits(values.head_bits),
        **numbers,
        double=bool(values.double),
        rotate=bool(values.rotate),
        layers=str(values.layers or ""),  # type: ignore[arg-type]
        protect=str(values.protect or ""),  # type: ignore[arg-type]
    )
    prompt = Prompt(
        text=str(values.prompt or ""),
        new_tokens=int(min(max(_number(values.length, 96), 1), 400)),
        seed=int(min(max(_number(values.seed, 0), 0), 10**6)),
        temperature=min(max(_number(values.temperature, 0), 0.0), 2.0),
        chat=bool(values.chat),
    )
    return Ask(recipe=recipe, prompt=prompt)


def controls_from(recipe: Recipe) -> tuple[Any, ...]:
    """The recipe controls' values, in order, of which `ask_from` makes this recipe: sliders hold per cent, choices hold
    text, and a method is `auto` wherever that comes to the same."""
    known = {field.name for field in fields(Recipe)}
    found = {name: getattr(recipe if name in known else Controls(), name) for name in RECIPE_CONTROLS}
    found |= {name: round(found[name] * 100) for name in PERCENT}
    found |= {name: "; ".join(found[name]) for name in ("layers", "protect")}
    found |= {name: stop_of(found[name]) for name in ("bits", "head_bits")}
    automatic = ask_from(Controls(**found | dict.fromkeys(METHODS, AUTO))).recipe
    found |= {name: AUTO for name in METHODS if getattr(automatic, name) == getattr(recipe, name)}
    return tuple(found.values())


def _automatic(values: Controls, shares: dict[str, float], calibrated: bool) -> dict[str, str]:
    plain = Recipe()
    chosen = {name: getattr(plain, name) for name in METHODS}
    if not calibrated:
        return chosen | DATA_FREE
    if values.level == "best":
        return chosen | BEST
    new = shares["sparsity"] or shares["keep"] < 1 or str(values.pattern) != plain.pattern or values.rotate
    if new:  # ranges of survivors, factors and turned weights cannot be kept from before: searching takes seconds
        chosen["quant"] = "rtn"
    return chosen


def stop_of(bits: int) -> int:
    """Where a slider of bits stands: coarse stops lie to the right."""
    return FIRST_STOP + BITS.index(bits)


def _bits(value: Any) -> int:
    """Of a slider's stop, or bits as they are."""
    number = int(_number(value, 16))
    return BITS[min(number - FIRST_STOP, len(BITS) - 1)] if number >= FIRST_STOP else number


def _plain(name: str) -> float:
    value: float = getattr(Controls(), name)
    return value


def _number(value: Any, default: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return default
    return number if math.isfinite(number) else default


def _nearest(value: float, range_: Range) -> float:
    within = min(max(value, range_.low), range_.high)
    return min(range_.low + round((within - range_.low) / range_.step) * range_.step, range_.high)
