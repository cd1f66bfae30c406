"""How positions are turned: each way that a file has for it, against the folder that the file was made from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from explorer.model import conversion, gguf_rotary
from explorer.model.preflight import ModelRejected
from tests.model import ggufs

Opened = Callable[..., Any]
LLAMA3: dict[str, Any] = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0}
LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 256}
YARN: dict[str, Any] = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}
YARN |= {"original_max_position_embeddings": 256}


@pytest.fixture
def opened(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Opened:
    """The model that a file of `family` opens as, and how far its logits are from those of the folder."""

    def opened(family: str, rope: dict[str, Any], extra: Any = None, **more: Any) -> Any:
        model = ggufs.tiny(family, rope_parameters=rope)
        state = ggufs.write(tmp_path / "model.gguf", family, model, tokenizer, extra=extra or {}, **more)
        conversion._convert(tmp_path / "model.gguf", tmp_path / "kept")
        kept = AutoModelForCausalLM.from_pretrained(tmp_path / "kept").eval()
        plain = AutoModelForCausalLM.from_config(model.config, dtype=torch.bfloat16).eval()
        plain.load_state_dict(state, strict=False)
        plain.tie_weights()
        return kept.config.rope_parameters, float((ggufs.logits(plain) - ggufs.logits(kept)).abs().max())

    return opened


def llama3_factors(rope: dict[str, Any], dims: int = 16) -> np.ndarray:
    """As the converter of llama.cpp works them out."""
    freqs = 1.0 / (rope["rope_theta"] ** (torch.arange(0, dims, 2, dtype=torch.float32) / dims))
    factors, context = [], rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    for freq in freqs:
        length = 2 * np.pi / freq
        if length < context / high:
            factors.append(1.0)
        elif length > context / low:
            factors.append(rope["factor"])
        else:
            smooth = (context / length - low) / (high - low)
            factors.append(float(1 / ((1 - smooth) / rope["factor"] + smooth)))
    return np.array(factors, np.float32)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"factor": 32.0, "original_max_position_embeddings": 128},
        {"rope_theta": 5e5, "original_max_position_embeddings": 8192},
        {"high_freq_factor": 16.0, "original_max_position_embeddings": 300},
        {"low_freq_factor": 2.0, "high_freq_factor": 40.0, "original_max_position_embeddings": 1000},
    ],
)
def test_llama3_factors_open_as_the_parameters_that_made_them(opened: Opened, change: dict[str, Any]) -> None:
    rope = LLAMA3 | change
    found, difference = opened("llama", rope, {"rope_freqs.weight": llama3_factors(rope)})
    assert found["rope_type"] == "llama3" and difference == 0


def test_published_parameters_are_found_from_factors_of_full_size() -> None:
    for factor, theta, dims in ((8.0, 5e5, 128), (32.0, 5e5, 64), (32.0, 5e5, 128)):
        rope = LLAMA3 | {"factor": factor, "rope_theta": theta, "original_max_position_embeddings": 8192}
        freqs = llama3_factors(rope, dims).tolist()
        assert {"rope_theta": theta} | (gguf_rotary._llama3(freqs, theta, dims) or {}) == rope


def test_factors_that_no_formula_gives_are_applied_as_they_are(opened: Opened) -> None:
    factors = np.array([1.0, 3.0, 1.5, 2.0, 7.0, 5.0, 9.0, 2.5], np.float32)
    same = {"rope_type": "longrope", "rope_theta": 1e4, "long_factor": factors.tolist(), "attention_factor": 1.0}
    same |= {"short_factor": factors.tolist(), "original_max_position_embeddings": 1024, "factor": 1.0}
    assert opened("llama", same, {"rope_freqs.weight": factors})[1] == 0


def test_factors_of_one_scale_nothing(opened: Opened) -> None:
    plain = {"rope_type": "default", "rope_theta": 1e4}
    assert opened("llama", plain, {"rope_freqs.weight": np.ones(8, np.float32)}) == (plain, 0)


@pytest.mark.parametrize(
    "rope",
    [
        YARN,
        YARN | {"factor": 40.0, "attention_factor": 1.5},
        YARN | {"beta_fast": 16.0, "beta_slow": 2.0},
        {"rope_type": "linear", "rope_theta": 5e3, "factor": 4.0},
        {"rope_type": "default", "rope_theta": 1e6},
    ],
)
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "starcoder2"])
def test_scaled_positions_are_those_of_the_folder(opened: Opened, family: str, rope: dict[str, Any]) -> None:
    found, difference = opened(family, rope)
    assert found.items() >= rope.items() and difference == 0


def test_longrope_takes_its_factors_from_the_file(opened: Opened) -> None:
    short, long = (np.linspace(1, end, 8, dtype=np.float32) for end in (2, 9))
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 1.0}
    rope |= {"short_factor": short.tolist(), "long_factor": long.tolist(), "original_max_position_embeddings": 4096}
    extra = {"rope_factors_short.weight": short, "rope_factors_long.weight": long}
    says = {"rope__scaling__original_context_length": 4096, "rope__scaling__attn_factor": 1.0}
    assert opened("phi3", rope, extra, **says)[1] == 0


def test_longrope_turns_differently_beyond_the_original_context(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    short, long = (np.linspace(1, end, 8, dtype=np.float32) for end in (2, 9))
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 1.0}
    rope |= {"short_factor": short.tolist(), "long_factor": long.tolist(), "original_max_position_embeddings": 256}
    model = ggufs.tiny("phi3", rope_parameters=rope, original_max_position_embeddings=256)
    extra = {"rope_factors_short.weight": short, "rope_factors_long.weight": long}
    scale = float(np.sqrt(1 + np.log(1024 / 256) / np.log(256)))
    says = {"rope__scaling__original_context_length": 256, "rope__scaling__attn_factor": scale}
    state = ggufs.write(tmp_path / "model.gguf", "phi3", model, tokenizer, extra=extra, **says)
    conversion._convert(tmp_path / "model.gguf", tmp_path / "kept")
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "kept").eval()
    plain = AutoModelForCausalLM.from_config(model.config, dtype=torch.bfloat16).eval()
    plain.load_state_dict(state, strict=False)
    for positions in (200, 600):
        assert torch.equal(ggufs.logits(plain, positions), ggufs.logits(kept, positions))


@pytest.mark.parametrize(
    "says",
    [
        {"rope__freq_base": 0.0},
        {"rope__freq_base": float("nan")},
        {"rope__dimension_count": 64},
        {"rope__dimension_count": 8},  # a Llama turns whole heads
        {"rope__scaling__type": "squeezed", "rope__scaling__factor": 2.0},
        {"rope__scaling__type": "longrope"},
        {"rope__scaling__type": "linear", "rope__scaling__factor": -2.0},
        {"rope__scaling__type": "yarn", "rope__scaling__factor": 2.0, "rope__scaling__yarn_ext_factor": 0.5},
        {"rope__scaling__attn_factor": 1.3},
        {"rope__scaling__alpha": 1000.0, "rope__scaling__factor": 2.0},
    ],
)
def test_positions_that_cannot_be_turned_so_are_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, says: dict[str, Any]
) -> None:
    ggufs.write(tmp_path / "model.gguf", "llama", ggufs.tiny("llama"), tokenizer, **says)
    with pytest.raises(ModelRejected, match="model.gguf") as found:
        conversion.decoded(tmp_path / "model.gguf")
    assert found.value.code == "rotary"


@pytest.mark.parametrize("extra", [np.zeros(8), np.ones(7), np.full(8, np.nan), np.full(8, -1.0)])
def test_factors_that_cannot_be_are_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, extra: np.ndarray
) -> None:
    freqs = {"rope_freqs.weight": extra.astype(np.float32)}
    ggufs.write(tmp_path / "model.gguf", "llama", ggufs.tiny("llama"), tokenizer, extra=freqs)
    with pytest.raises(ModelRejected, match="damaged"):
        conversion.decoded(tmp_path / "model.gguf")
