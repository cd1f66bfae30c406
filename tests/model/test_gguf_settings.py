"""What a file says of its model: many families, each number format, and each value that transformers leaves out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from explorer.model import conversion, gguf_settings
from explorer.model.places import locate
from explorer.model.preflight import ModelRejected
from explorer.values.progress import told
from tests.model import ggufs

KINDS = [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.MXFP4]
Open = Callable[..., tuple[Any, Any]]


@pytest.fixture
def opened(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Open:
    """(plain transformers with what the folder says and the file holds, plain transformers with what was kept)."""

    def opened(family: str, model: Any, **options: Any) -> tuple[Any, Any]:
        state = ggufs.write(tmp_path / "model.gguf", family, model, tokenizer, **options)
        conversion._convert(tmp_path / "model.gguf", tmp_path / "kept")
        plain = AutoModelForCausalLM.from_config(model.config, dtype=torch.bfloat16).eval()
        wrong = plain.load_state_dict(state, strict=False)
        assert not wrong.unexpected_keys and set(wrong.missing_keys) <= {"lm_head.weight"}
        plain.tie_weights()
        return plain, AutoModelForCausalLM.from_pretrained(tmp_path / "kept").eval()

    return opened


def difference(plain: Any, kept: Any) -> float:
    return float((ggufs.logits(plain).float() - ggufs.logits(kept).float()).abs().max())


@pytest.mark.parametrize("family", sorted(ggufs.CONFIGS))
def test_an_opened_file_is_what_it_holds_whatever_its_family(opened: Open, family: str) -> None:
    assert difference(*opened(family, ggufs.tiny(family), kind=Kind.Q8_0)) == 0


def test_every_family_that_opens_is_compared_here() -> None:
    assert ggufs.CONFIGS.keys() == gguf_settings.FAMILIES


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen3moe"])
def test_an_opened_file_is_what_it_holds_in_each_number_format(opened: Open, family: str, kind: Kind) -> None:
    assert difference(*opened(family, ggufs.tiny(family), kind=kind)) == 0


BLOCKS = {  # bytes of a block in which its scales lie, as float16 numbers
    Kind.Q2_K: (80, 82), Kind.Q3_K: (108,), Kind.Q4_K: (0, 2), Kind.Q5_K: (0, 2), Kind.Q6_K: (208,),
    Kind.IQ2_XXS: (0,), Kind.IQ2_XS: (0,), Kind.IQ2_S: (0,), Kind.IQ3_XXS: (0,), Kind.IQ3_S: (0,), Kind.IQ1_S: (0,),
    Kind.IQ4_NL: (0,), Kind.IQ4_XS: (0,), Kind.TQ1_0: (52,), Kind.TQ2_0: (64,),
}  # fmt: skip


def random_blocks(tensor: torch.Tensor, kind: Kind) -> tuple[np.ndarray, Kind]:
    """Blocks that nobody can make here, of random bits with small scales."""
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    if tensor.dim() < 2 or tensor.shape[-1] % elements:
        return tensor.numpy(), Kind.F32
    noise = np.random.default_rng(5)
    blocks = noise.integers(0, 256, (tensor.numel() // elements, size), np.uint8)
    for place in BLOCKS[kind]:
        scales = noise.uniform(1e-4, 2e-3, len(blocks)).astype(np.float16)
        blocks[:, place : place + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(*tensor.shape[:-1], -1), kind


@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: kind.name)
def test_an_opened_file_is_what_it_holds_in_number_formats_that_only_llama_cpp_writes(
    opened: Open, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ggufs, "rounded", random_blocks)
    model = ggufs.tiny("llama", hidden_size=256, intermediate_size=512, num_hidden_layers=1)
    assert difference(*opened("llama", model, kind=kind)) == 0


def test_rows_that_one_expert_s_half_is_made_of_keep_their_order(opened: Open) -> None:
    plain, kept = opened("qwen2moe", ggufs.tiny("qwen2moe"), kind=Kind.BF16)
    name = "model.layers.1.mlp.experts.gate_up_proj"
    assert torch.equal(plain.state_dict()[name], kept.state_dict()[name])


@pytest.mark.parametrize(
    "family, more",
    [
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("phi3", {"sliding_window": 50}),
        ("gemma3", {"final_logit_softcapping": 3.0}),
        ("gpt2", {"n_positions": 700}),
        ("bloom", {"tie_word_embeddings": False}),
        ("llama", {"head_dim": 32}),
        ("starcoder2", {"tie_word_embeddings": False}),
        ("stablelm", {"use_qkv_bias": True, "use_parallel_residual": True}),
        ("qwen2", {"num_key_value_heads": 1}),
    ],
)
def test_a_value_other_than_transformers_default_is_applied(opened: Open, family: str, more: dict[str, Any]) -> None:
    says = {"attention__sliding_window": 50} if family == "phi3" else {}
    assert difference(*opened(family, ggufs.tiny(family, **more), **says)) == 0


@pytest.mark.parametrize(
    "key, value",
    [
        ("attention__scale", 0.5),
        ("logit_scale", 0.0625),
        ("residual_scale", 0.22),
        ("embedding_scale", 12.0),
        ("expert_count", 8),
        ("expert_weights_scale", 2.5),
        ("leading_dense_block_count", 1),
        ("attention__clamp_kqv", 8.0),
        ("attention__sliding_window", 128),
        ("attn_logit_softcapping", 50.0),
        ("attention__causal", False),
        ("attention__value_length", 8),
        ("attention__sliding_window_pattern", 4),
        ("rope__freq_base_swa", 5.0),
    ],
)
def test_a_value_that_changes_numbers_and_has_no_place_is_refused(opened: Open, key: str, value: Any) -> None:
    with pytest.raises(ModelRejected) as found:
        opened("llama", ggufs.tiny("llama"), **{key: value})
    assert str(found.value).startswith("model.gguf") or "misshapen" in str(found.value)


@pytest.mark.parametrize(
    "key, value",
    [
        ("attention__scale", 0.25),
        ("logit_scale", 1.0),
        ("expert_count", 0),
        ("expert_used_count", 0),
        ("leading_dense_block_count", 0),
        ("attention__causal", True),
        ("attention__sliding_window", 0),
        ("rope__dimension_count", 16),
        ("attention__value_length", 16),
    ],
)
def test_a_value_that_means_nothing_is_let_pass(opened: Open, key: str, value: Any) -> None:
    assert difference(*opened("llama", ggufs.tiny("llama"), **{key: value})) == 0


def test_a_value_that_nobody_knows_is_named(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    ggufs.write(tmp_path / "model.gguf", "llama", ggufs.tiny("llama"), tokenizer, rope__moon_phase=3)
    place = told(locate(str(tmp_path / "model.gguf")), lambda _: None)
    again = told(locate(str(tmp_path / "model.gguf")), lambda _: None)
    assert place.note == again.note and place.note.endswith("Of the file, rope.moon_phase is not applied.")


def test_falcon_with_several_key_value_heads_is_refused(opened: Open) -> None:
    with pytest.raises(ModelRejected, match="head_count_kv"):
        opened("falcon", ggufs.tiny("falcon"), attention__head_count_kv=2)


def test_a_family_that_was_not_compared_is_refused_by_its_name(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with pytest.raises(ModelRejected):
        opened("llama", ggufs.tiny("llama"), attention__scale=2.0)
    path.write_bytes(path.read_bytes().replace(b"llama", b"llamb"))
    with pytest.raises(ModelRejected, match="of the family llamb are not opened from GGUF here"):
        conversion.decoded(path)


def test_a_number_format_that_one_loader_cannot_decode_is_named(opened: Open) -> None:
    with pytest.raises(ModelRejected, match="^model.gguf uses Q5_0, which cannot be decoded here for lfm2.$"):
        opened("lfm2", ggufs.tiny("lfm2"), kind=Kind.Q5_0)
