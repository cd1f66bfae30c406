"""Types of every tensor, against those of llama-quantize (llama-cpp-python 0.3.36) for the default model."""

from collections import Counter

import pytest

from explorer.formats.gguf_mixes import MIXES, fitting, types

HIDDEN, INNER, KEYS, WORDS, BLOCKS = 576, 1536, 192, 49152, 30
MADE = {  # by llama-quantize, without an importance matrix; types of matrices, counted
    "Q2_K": {"Q8_0": 1, "Q4_0": 180, "Q3_K": 30},
    "Q3_K_M": {"Q8_0": 1, "Q4_0": 120, "Q5_0": 58, "Q5_1": 2, "Q5_K": 1, "Q4_K": 29},
    "Q4_K_M": {"Q8_0": 15, "Q5_0": 166, "Q6_K": 14, "Q4_K": 16},
    "Q5_K_M": {"Q8_0": 15, "Q5_1": 166, "Q6_K": 14, "Q5_K": 16},
    "Q6_K": {"Q8_0": 181, "Q6_K": 30},
}
MORE_BITS = [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27, 28, 29]  # of 30 blocks


def shapes(hidden: int, inner: int, blocks: int = BLOCKS) -> dict[str, tuple[int, int]]:
    found = {"token_embd.weight": (WORDS, hidden)}
    for block in range(blocks):
        own = {"attn_q": (hidden, hidden), "attn_k": (KEYS, hidden), "attn_v": (KEYS, hidden)}
        own |= {"attn_output": (hidden, hidden), "ffn_gate": (inner, hidden), "ffn_up": (inner, hidden)}
        own |= {"ffn_down": (hidden, inner)}
        found |= {f"blk.{block}.{name}.weight": shape for name, shape in own.items()}
    return found


@pytest.mark.parametrize("mix", MADE)
def test_the_default_model_has_llama_cpp_s_types(mix: str) -> None:
    found = types(mix, shapes(HIDDEN, INNER), "llama", BLOCKS, 0, 3)
    assert Counter(found.values()) == MADE[mix]


@pytest.mark.parametrize("mix", ["Q4_K_M", "Q5_K_M"])
def test_places_that_get_more_bits(mix: str) -> None:
    found = types(mix, shapes(HIDDEN, INNER), "llama", BLOCKS, 0, 3)
    assert [b for b in range(BLOCKS) if found[f"blk.{b}.ffn_down.weight"] == "Q6_K"] == MORE_BITS
    assert [b for b in range(BLOCKS) if found[f"blk.{b}.attn_v.weight"] == "Q8_0"] == MORE_BITS


@pytest.mark.parametrize("mix", MIXES)
def test_whole_super_blocks_need_no_other_type(mix: str) -> None:
    found = types(mix, shapes(1024, 2048, 8), "qwen3", 8, 0, 2)
    assert {kind[-2:] for kind in found.values()} == {"_K"}
    assert found["token_embd.weight"] == "Q6_K"
    assert found["blk.4.attn_q.weight"] == MIXES[mix]


def test_a_head_of_its_own_has_more_bits_than_the_table() -> None:
    found = types("Q4_K_M", shapes(1024, 2048) | {"output.weight": (WORDS, 1024)}, "llama", BLOCKS, 0, 1)
    assert (found["output.weight"], found["token_embd.weight"]) == ("Q6_K", "Q4_K")


@pytest.mark.parametrize("asked, columns, kind", [("Q4_K", 512, "Q4_K"), ("Q4_K", 96, "Q5_0"), ("Q6_K", 100, "F16")])
def test_rows_that_are_no_whole_blocks(asked: str, columns: int, kind: str) -> None:
    assert fitting(asked, columns) == kind
