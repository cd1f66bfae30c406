"""Where a family differs: what its config refuses, what is one matrix, and what it says about its blocks."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)

from explorer.layers.targets import blocks_of
from explorer.model.structure import Reduced, reduce

SIZES = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 5}
SIZES |= {"num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 128}
SIZES |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}


def llama_of_five() -> nn.Module:
    """Five blocks without weights."""
    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig(**SIZES))


def test_what_a_family_cannot_do_is_said() -> None:
    plain = {name: size for name, size in SIZES.items() if name not in ("intermediate_size", "num_key_value_heads")}
    with torch.device("meta"):
        fused = [
            GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=4, n_embd=64)),
            GPTNeoXForCausalLM(GPTNeoXConfig(**plain)),
        ]
        fixed = OPTForCausalLM(OPTConfig(**plain, ffn_dim=128, word_embed_proj_dim=64))
    for base in fused:
        with pytest.raises(ValueError, match="no separate query, key and value"):
            reduce(base, heads=0.5, facts=None)
    with pytest.raises(ValueError, match="has no setting for fewer attention heads"):
        reduce(fixed, heads=0.5, facts=None)


@pytest.mark.parametrize(("removed", "kept"), [(0.25, 2), (0.1, 4), (0.5, 2), (0.75, 1)])
def test_a_number_of_heads_that_a_config_refuses_becomes_the_nearest(removed: float, kept: int) -> None:
    """Six heads do not divide a hidden size of 64, and Llama insists."""
    with torch.device("meta"):
        base = LlamaForCausalLM(LlamaConfig(**SIZES | {"hidden_size": 64}))
    smaller = reduce(base, heads=removed, facts=None)
    assert smaller.model.config.num_key_value_heads == kept
    assert bool(smaller.note) == (removed == 0.25) and (smaller.model is base) == (kept == 4)


def test_norms_over_all_heads_keep_the_heads() -> None:
    with torch.device("meta"):
        base = Olmo2ForCausalLM(Olmo2Config(**SIZES | {"hidden_size": 128}))
    with pytest.raises(ValueError, match="norms over all heads"):
        reduce(base, heads=0.5, facts=None)


def test_gate_and_up_in_one_matrix_are_cut_alike(ids: Tensor) -> None:
    base = Phi3ForCausalLM(Phi3Config(**SIZES)).eval().requires_grad_(False)
    for block in range(5):
        base.get_submodule(f"model.layers.{block}.mlp.down_proj").weight[:, 64:] = 0
    smaller = reduce(base, width=0.5, facts=None).model  # without facts the first channels stay
    assert smaller.get_submodule("model.layers.0.mlp.gate_up_proj").weight.shape == (128, 64)
    torch.testing.assert_close(smaller(ids).logits, base(ids).logits, rtol=1e-3, atol=1e-3)


def test_experts_are_not_made_narrower() -> None:
    config = MixtralConfig(**SIZES, num_local_experts=2)
    with torch.device("meta"):
        base = MixtralForCausalLM(config)
    with pytest.raises(ValueError, match="without one plain MLP"):
        reduce(base, width=0.5, facts=None)
    assert len(blocks_of(reduce(base, depth=0.4, facts=None).model)[1]) == 3


def test_gpt_neo_keeps_its_kinds_of_attention(tmp_path: Path, ids: Tensor) -> None:
    config = GPTNeoConfig(
        vocab_size=300, hidden_size=64, num_layers=4, num_heads=4, attention_types=[[["global", "local"], 2]]
    )
    base = GPTNeoForCausalLM(config).eval()
    model: Any = reduce(base, depth=0.5, width=0.5, facts=None).model
    assert model.config.attention_layers == ["global", "local"]
    assert model.config.attention_types == [[["global", "local"], 1]]
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_more_removed_means_fewer_weights() -> None:
    base = llama_of_five()
    for name in ("depth", "width", "heads"):
        smaller: list[Reduced] = [reduce(base, **{name: share}, facts=None) for share in (0.0, 0.4, 0.8)]  # type: ignore[arg-type]
        counts = [sum(p.numel() for p in each.model.parameters()) for each in smaller]
        assert all(more > less for more, less in pairwise(counts)), name


@pytest.mark.parametrize("shares", [{"depth": 1.0}, {"width": -0.1}, {"heads": float("nan")}])
def test_shares_out_of_range_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(shares))}.*at least 0 and below 1"):
        reduce(llama_of_five(), **shares, facts=None)  # type: ignore[arg-type]


def test_what_is_set_outside_the_config_goes_along() -> None:
    base: Any = llama_of_five()
    base.set_attn_implementation("eager")
    base.generation_config.temperature = 0.3
    for training in (True, False):
        model: Any = reduce(base.train(training), depth=0.4, facts=None).model
        assert model.training == training and all(module.training == training for module in model.modules())
    assert model.config._attn_implementation == "eager"
    assert model.generation_config.temperature == 0.3 and model.generation_config is not base.generation_config
