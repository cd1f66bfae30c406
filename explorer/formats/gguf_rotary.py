"""How positions are turned, as a .gguf file says it: the other way of `model.gguf_rotary`."""

import math
from collections.abc import Mapping
from typing import Any

from explorer.model.gguf_rotary import FREQS, LONG, SHORT, llama3_factors

Factors = Mapping[str, list[float]]  # tensors of one factor a frequency, by name
ROPE_FREQS = ("llama",)  # families whose rope_freqs llama.cpp reads
OWN_BASE = ("bloom", "gpt2", "mamba")  # without rotary positions


def rotary(family: str, text: Any, head_dim: int) -> tuple[dict[str, Any], Factors]:
    """Values without the family's name, and tensors. ValueError in one sentence for what llama.cpp cannot follow."""
    whole = text.rope_parameters or {}
    rope = whole.get("full_attention", whole)
    if family in OWN_BASE or not rope:
        return {}, {}
    found: dict[str, Any] = {"rope.freq_base": float(rope.get("rope_theta", 10_000.0))}
    dims = int(head_dim * rope.get("partial_rotary_factor", 1.0))
    found["rope.dimension_count"] = dims
    near = whole.get("sliding_attention", {})
    if near and near.get("rope_theta") != rope.get("rope_theta"):
        found["rope.freq_base_swa"] = float(near["rope_theta"])
    kind, factor = rope.get("rope_type", "default"), float(rope.get("factor") or 1.0)
    if kind == "linear":
        return found | {"rope.scaling.type": "linear", "rope.scaling.factor": factor}, {}
    if kind == "yarn":
        return found | _yarn(rope, factor), {}
    if kind == "llama3" and family in ROPE_FREQS:
        return found, {FREQS: llama3_factors(rope, dims)}
    if kind == "longrope" and family == "phi3":
        original = int(rope["original_max_position_embeddings"])
        found |= {"rope.scaling.original_context_length": original}
        found |= {"rope.scaling.attn_factor": _attention(rope, text.max_position_embeddings / original, original)}
        return found, {LONG: list(rope["long_factor"]), SHORT: list(rope["short_factor"])}
    if kind != "default":
        raise ValueError(f"llama.cpp's {family} does not turn positions by {kind}: not written as GGUF.")
    if family == "nemotron":
        found["rope.scaling.type"] = "none"
    return found, {}


def _yarn(rope: Mapping[str, Any], factor: float) -> dict[str, Any]:
    if any(rope.get(name) for name in ("mscale", "mscale_all_dim")) or rope.get("truncate") is False:
        raise ValueError("llama.cpp does not follow this yarn's mscale or truncate: not written as GGUF.")
    keys = {"original_context_length": "original_max_position_embeddings", "yarn_attn_factor": "attention_factor"}
    keys |= {"yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow"}
    given = {f"rope.scaling.{key}": rope[name] for key, name in keys.items() if rope.get(name) is not None}
    return {"rope.scaling.type": "yarn", "rope.scaling.factor": factor} | given


def _attention(rope: Mapping[str, Any], scale: float, original: int) -> float:
    """What attention is multiplied by in longrope (Ding et al., arXiv 2402.13753, as Phi-3 has it)."""
    given = rope.get("attention_factor")
    if given is not None:
        return float(given)
    return math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
