"""How a .gguf file turns positions, as transformers' rope_parameters; and whether a model turns them so.

transformers reads rope.freq_base alone, and of some families not even that.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from explorer.model.gguf_header import Header
from explorer.model.preflight import require

FREQS, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
READ = {"freq_base", "freq_base_swa", "dimension_count", "dimension_count_swa", "scale_linear", "scaling.finetuned"}
READ |= {f"scaling.{name}" for name in ("type", "factor", "alpha", "attn_factor", "original_context_length")}
READ |= {f"scaling.yarn_{name}" for name in ("ext_factor", "attn_factor", "beta_fast", "beta_slow", "log_multiplier")}
THETA = 10_000.0  # where a file does not say
NEAR = 2e-6  # relative, of float32 numbers that were worked out in another order
LLAMA3_CONTEXTS = [2**power for power in range(4, 21)]
Parameters = dict[str, Any]


def rope_parameters(header: Header, head_dim: int, context: int) -> Parameters:
    """rope_parameters of a transformers config that turn positions as the file says. ModelRejected for what it cannot
    express."""
    says, name = header.own, header.name
    theta, dims = _number(says, "rope.freq_base", THETA), _turned(says, head_dim)
    require(math.isfinite(theta) and theta > 0, "rotary", f"{name} is damaged: its rope.freq_base cannot be {theta}")
    possible = 0 < dims <= head_dim and dims % 2 == 0
    require(possible, "rotary", f"{name} is damaged: it cannot turn {dims} of {head_dim} values")
    scaling = _factors(header, theta, dims, context) or _scaling(says, name, context)
    part = {} if dims == head_dim else {"partial_rotary_factor": _share(dims, head_dim)}
    return {"rope_theta": theta} | scaling | part


def check_rotary(model: nn.Module, header: Header, head_dim: int, parameters: Parameters) -> None:
    """Refuse a model that turns positions in another way than its file says, whatever its config says."""
    expected, scale = _frequencies(header, head_dim, parameters)
    for module in model.modules():
        name = "full_attention_" if hasattr(module, "full_attention_inv_freq") else ""
        turned: Tensor | None = getattr(module, f"{name}inv_freq", None)
        if turned is None:
            continue
        same = turned.shape == expected.shape and torch.allclose(turned.double(), expected, rtol=1e-5, atol=0)
        factor = getattr(module, f"{name}attention_scaling", 1.0)
        words = f"{header.name} turns positions in a way that transformers cannot follow for {header.architecture}"
        require(same and math.isclose(factor, scale, rel_tol=1e-5), "rotary", words)


def _number(says: Mapping[str, Any], key: str, otherwise: float) -> float:
    value = says.get(key)
    return otherwise if value is None else float(value)


def _turned(says: Mapping[str, Any], head_dim: int) -> int:
    return int(_number(says, "rope.dimension_count", head_dim) or head_dim)


def _share(dims: int, head_dim: int) -> float:
    """What gives `dims` again where transformers takes int(head_dim × share)."""
    share = dims / head_dim
    return share if int(head_dim * share) == dims else (dims + 0.5) / head_dim


def _scaling(says: Mapping[str, Any], name: str, context: int) -> Parameters:
    """From rope.scaling.*, whose kind is linear where it is not said."""
    kind = says.get("rope.scaling.type", "linear")
    factor = _number(says, "rope.scaling.factor", _number(says, "rope.scale_linear", 0.0)) or 1.0
    other = _number(says, "rope.scaling.attn_factor", 1.0)
    odd = f"{name} scales positions by {kind} with a factor of {factor:g}, which cannot be followed"
    require(kind in ("none", "linear", "yarn", "longrope") and math.isfinite(factor) and factor > 0, "rotary", odd)
    require(not _number(says, "rope.scaling.alpha", 0.0) or factor == 1, "rotary", odd)
    if kind == "yarn" and factor > 1:
        return _yarn(says, name, context, factor, other)
    require(other == 1.0, "rotary", f"{name} scales attention by rope.scaling.attn_factor {other:g}, without yarn")
    if kind == "linear" and factor != 1:
        return {"rope_type": "linear", "factor": factor}
    require(kind != "longrope", "rotary", f"{name} scales positions by longrope, and lacks {LONG}")
    return {"rope_type": "default"}


def _yarn(says: Mapping[str, Any], name: str, context: int, factor: float, other: float) -> Parameters:
    blend = _number(says, "rope.scaling.yarn_ext_factor", 1.0)
    require(blend == 1.0, "rotary", f"{name} sets rope.scaling.yarn_ext_factor to {blend:g}, which cannot be followed")
    original = int(_number(says, "rope.scaling.original_context_length", context) or context)
    found: Parameters = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    for key in ("beta_fast", "beta_slow"):
        if says.get(f"rope.scaling.yarn_{key}"):
            found[key] = float(says[f"rope.scaling.yarn_{key}"])
    spread = _number(says, "rope.scaling.yarn_log_multiplier", 0.0)
    whole = (0.1 * math.log(factor) + 1.0) / (0.1 * spread * math.log(factor) + 1.0)
    if "rope.scaling.yarn_attn_factor" in says:
        found["attention_factor"] = _number(says, "rope.scaling.yarn_attn_factor", 1.0)
    elif other != 1.0 or spread:
        found["attention_factor"] = whole * other
    return found


def _factors(header: Header, theta: float, dims: int, context: int) -> Parameters | None:
    """From tensors of factors, one a frequency; None where there are none."""
    freqs, long, short = (header.numbers(name) for name in (FREQS, LONG, SHORT))
    if not (freqs or long or short):
        return None
    says, name = header.own, header.name
    for given in (freqs, long, short):
        fine = len(given) in (0, dims // 2) and all(math.isfinite(each) and each > 0 for each in given)
        require(fine, "rotary", f"{name} is damaged: its factors of positions are not {dims // 2} positive numbers")
    scaled = _number(says, "rope.scaling.factor", 1.0) not in (0.0, 1.0) and says.get("rope.scaling.type") != "longrope"
    both = f"{name} scales positions in two ways at once, which cannot be followed"
    require(not scaled and bool(freqs) != bool(long or short) and bool(long) == bool(short), "rotary", both)
    if freqs:
        return _llama3(freqs, theta, dims) or _by_hand(freqs, context)
    original = int(_number(says, "rope.scaling.original_context_length", context) or context)
    return _longrope(long, short, original, context, _number(says, "rope.scaling.attn_factor", 1.0))


def _longrope(long: list[float], short: list[float], original: int, context: int, attention: float) -> Parameters:
    found: Parameters = {"rope_type": "longrope", "long_factor": long, "short_factor": short}
    found |= {"original_max_position_embeddings": original}
    usual = math.sqrt(1 + math.log(context / original) / math.log(original)) if context > original else 1.0
    return found if math.isclose(usual, attention, rel_tol=NEAR) else found | {"attention_factor": attention}


def _by_hand(freqs: list[float], context: int) -> Parameters:
    """Factors that no formula gives, exactly: longrope with the same ones near and far."""
    if all(each == 1 for each in freqs):
        return {"rope_type": "default"}
    same: Parameters = {"rope_type": "longrope", "long_factor": freqs, "short_factor": freqs}
    return same | {"original_max_position_embeddings": context, "factor": 1.0, "attention_factor": 1.0}


def _llama3(freqs: list[float], theta: float, dims: int) -> Parameters | None:
    """The parameters of Llama 3's formula that give these factors; None where none do."""
    turns = _turns(theta, dims)
    if all(each == 1 for each in freqs):
        return None
    for factor, low, high, original in _candidates(freqs, turns):
        given = [_llama3_factor(original * turn, factor, low, high) for turn in turns]
        if all(math.isclose(each, asked, rel_tol=NEAR) for each, asked in zip(given, freqs, strict=True)):
            numbers = {"low_freq_factor": low, "high_freq_factor": high, "original_max_position_embeddings": original}
            return {"rope_type": "llama3", "factor": factor} | numbers
    return None


def _candidates(freqs: Sequence[float], turns: Sequence[float]) -> Iterator[tuple[float, float, float, int]]:
    """(factor, low, high, original context) that may be meant: as published, then as two points of the ramp have it."""
    factor = float(f"{max(freqs):.6g}")
    for original in LLAMA3_CONTEXTS:
        yield factor, 1.0, 4.0, original
    # On the ramp, 1 / freq is linear in turns: smooth = (original × turn - low) / (high - low).
    ramp = [(turn, (1 / freq - 1 / factor) / (1 - 1 / factor)) for freq, turn in zip(freqs, turns, strict=True)]
    ramp = [(turn, smooth) for turn, smooth in ramp if 1e-4 < smooth < 1 - 1e-4]
    if len(ramp) < 2:
        return
    (turn, smooth), (turn2, smooth2) = ramp[0], ramp[-1]
    slope = (smooth - smooth2) / (turn - turn2)
    offset = slope * turn - smooth  # low / (high - low)
    for low in (1.0, 2.0, 0.5):
        if offset > 0 and slope > 0:
            width = low / offset
            yield factor, low, float(f"{low + width:.4g}"), round(slope * width)


def llama3_factors(rope: Mapping[str, Any], dims: int) -> list[float]:
    """What each of Llama 3's frequencies is divided by."""
    original, theta = rope["original_max_position_embeddings"], rope.get("rope_theta", THETA)
    ends = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    return [_llama3_factor(original * turn, *ends) for turn in _turns(theta, dims)]


def _turns(theta: float, dims: int) -> list[float]:
    """Of each frequency, a position."""
    return [theta ** (-2 * i / dims) / (2 * math.pi) for i in range(dims // 2)]


def _llama3_factor(turned: float, factor: float, low: float, high: float) -> float:
    if turned > high:
        return 1.0
    if turned < low:
        return factor
    smooth = (turned - low) / (high - low)
    return 1 / ((1 - smooth) / factor + smooth)


def _frequencies(header: Header, head_dim: int, parameters: Parameters) -> tuple[Tensor, float]:
    """Radians a position as llama.cpp has them, from the file alone, and the factor of attention."""
    says, dims = header.own, _turned(header.own, head_dim)
    plain = _number(says, "rope.freq_base", THETA) ** (-torch.arange(0, dims, 2, dtype=torch.float64) / dims)
    if factors := header.numbers(FREQS) or header.numbers(SHORT):
        attention = _number(says, "rope.scaling.attn_factor", 1.0)
        return plain / torch.tensor(factors, dtype=torch.float64), attention
    if parameters["rope_type"] == "yarn":
        return _yarn_frequencies(plain, dims, parameters)
    return plain / parameters.get("factor", 1.0), 1.0


def _yarn_frequencies(plain: Tensor, dims: int, parameters: Parameters) -> tuple[Tensor, float]:
    factor, original = parameters["factor"], parameters["original_max_position_embeddings"]

    def place(turns: float) -> float:
        return dims * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(parameters["rope_theta"]))

    low = max(0, math.floor(place(parameters.get("beta_fast", 32.0))))
    high = min(dims - 1, math.ceil(place(parameters.get("beta_slow", 1.0))))
    far = ((torch.arange(dims // 2, dtype=torch.float64) - low) / max(0.001, high - low)).clamp(0, 1)
    attention = parameters.get("attention_factor", 0.1 * math.log(factor) + 1.0)
    return plain * (1 - far) + plain / factor * far, attention
