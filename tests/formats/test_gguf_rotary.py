"""Scaled positions as values and tensors."""

from typing import Any

import pytest

from explorer.formats.gguf_rotary import rotary
from explorer.model.gguf_rotary import FREQS, LONG, SHORT
from tests.model import ggufs


def said(family: str, rope: dict[str, Any], **more: Any) -> Any:
    config = ggufs.tiny(family, rope_parameters={"rope_theta": 1e4} | rope, **more).config
    return rotary(family, config, 16)


def test_llama_3_scales_by_a_tensor_of_factors() -> None:
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    values, factors = said("llama", rope | {"original_max_position_embeddings": 64})
    assert len(factors[FREQS]) == 8 and factors[FREQS][0] == 1 and factors[FREQS][-1] == 8
    assert 1 < factors[FREQS][2] < 8 and "rope.scaling.type" not in values


def test_phi_3_scales_by_two_tensors() -> None:
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    values, factors = said("phi3", rope, original_max_position_embeddings=256)
    assert factors == {LONG: [2.0] * 8, SHORT: [1.0] * 8}
    assert values["rope.scaling.original_context_length"] == 256
    assert values["rope.scaling.attn_factor"] == pytest.approx((1 + 2 * 0.6931471806 / 5.5451774445) ** 0.5)


@pytest.mark.parametrize("family, kind", [("qwen2", "longrope"), ("qwen3", "llama3"), ("llama", "dynamic")])
def test_what_cannot_be_followed_is_refused_by_name(family: str, kind: str) -> None:
    config = ggufs.tiny(family).config
    config.rope_parameters = {"rope_type": kind, "rope_theta": 1e4, "factor": 2.0}
    with pytest.raises(ValueError, match=kind):
        rotary(family, config, 16)
