"""Which type each tensor has in the files that llama.cpp makes (llama-quant.cpp, llama_tensor_get_type_impl and
tensor_type_fallback): the rules are facts about what users of Q4_K_M expect, so that ours has the same bytes."""

import re
from collections.abc import Mapping, Sequence

from explorer.methods.superblocks import KINDS

MIXES = {
    "Q2_K": "Q2_K",
    "Q3_K_S": "Q3_K",
    "Q3_K_M": "Q3_K",
    "Q3_K_L": "Q3_K",
    "Q4_K_S": "Q4_K",
    "Q4_K_M": "Q4_K",
    "Q5_K_S": "Q5_K",
    "Q5_K_M": "Q5_K",
    "Q6_K": "Q6_K",
}  # a mix, and what most of its matrices are
# Rows that are no whole super-blocks: the next type of 32 that keeps at least as much.
FALLBACK = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
Shape = Sequence[int]


def types(
    mix: str, shapes: Mapping[str, Shape], family: str, blocks: int, experts: int, heads_a_key: int
) -> dict[str, str]:
    """The type of each matrix by its name in the file. `blocks`, `experts`: of the model; `heads_a_key`: query heads
    that share one."""
    values = [name for name in shapes if _is(name, "attn_v", "attn_qkv", "attn_kv_b")]
    places = {name: at for at, name in enumerate(sorted(values, key=_block))}
    tied = "output.weight" not in shapes
    found = {}
    for name, shape in shapes.items():
        asked = MIXES[mix]
        if name == "output.weight" or tied and name == "token_embd.weight":
            asked = "Q8_0" if family == "falcon" or shape[-1] % KINDS[asked].span else "Q6_K"
        elif name in places:
            asked = _value(mix, asked, places[name], len(values), experts, heads_a_key)
        elif _is(name, "attn_k") and experts == 8:
            asked = "Q8_0"
        elif "ffn_down" in name:
            asked = _down(mix, asked, _block(name), blocks, family)
        elif _is(name, "attn_output"):
            asked = _output(mix, asked, family, experts)
        found[name] = fitting(asked, shape[-1])
    return found


def fitting(asked: str, columns: int) -> str:
    """The type, or what stands in for it where rows are not whole blocks."""
    for kind in (asked, FALLBACK.get(asked, asked)):
        if columns % KINDS[kind].span == 0:
            return kind
    return "F16"


def _value(mix: str, asked: str, at: int, count: int, experts: int, heads_a_key: int) -> str:
    if experts == 8:
        return "Q8_0"
    if mix == "Q2_K":
        return "Q4_K" if heads_a_key >= 4 else "Q3_K"
    if mix == "Q3_K_M":
        return "Q5_K" if at < 2 else "Q4_K"
    if mix == "Q4_K_S" and at < 4 or mix == "Q3_K_L":
        return "Q5_K"
    return "Q6_K" if mix in ("Q4_K_M", "Q5_K_M") and _more(at, count) else asked


def _down(mix: str, asked: str, at: int, count: int, family: str) -> str:
    falcon = family == "falcon"
    if mix == "Q2_K":
        return "Q3_K"
    if mix == "Q3_K_M":
        return "Q5_K" if at < count // 16 else "Q4_K" if not falcon or _more(at, count) else "Q3_K"
    if mix == "Q3_K_L":
        return "Q4_K" if falcon else "Q5_K"
    if mix == "Q4_K_M" and falcon:
        return "Q6_K" if at < count // 16 else "Q5_K" if _more(at, count) else "Q4_K"
    if mix in ("Q4_K_M", "Q5_K_M") and _more(at, count):
        return "Q6_K"
    return "Q5_K" if mix == "Q4_K_S" and not falcon and at < count // 8 else asked


def _output(mix: str, asked: str, family: str, experts: int) -> str:
    if family == "falcon":
        return "Q4_K" if mix == "Q3_K_L" else asked
    if experts == 8:
        return "Q5_K" if mix in ("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M") else asked
    return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(mix, asked)


def _more(at: int, count: int) -> bool:
    """Places that get more bits: the first and last eighth, and every third between."""
    return at < count // 8 or at >= 7 * count // 8 or (at - count // 8) % 3 == 2


def _is(name: str, *words: str) -> bool:
    return any(name.endswith(f".{word}.weight") for word in words)


def _block(name: str) -> int:
    found = re.match(r"blk\.(\d+)\.", name)
    return int(found[1]) if found else -1
