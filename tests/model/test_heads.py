"""Whole groups of heads go, as many as a config agrees to."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
)

from explorer.model.structure import reduce
from tests.model.smaller import (
    BLOCKS,
    GROUPED,
    HEAD,
    Seen,
    logits,
)


def test_whole_groups_of_heads_go(models: dict[str, tuple[nn.Module, Seen]]) -> None:
    """Eight query heads in four groups; one group of four goes."""
    base, seen = models["qwen2"]
    smaller = reduce(base, heads=0.25, facts=seen)
    config: Any = smaller.model.config
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (6, 3, HEAD)
    for block in range(BLOCKS):
        name = f"model.layers.{block}.self_attn"
        new, old = (model.get_submodule(name) for model in (smaller.model, base))
        queries = smaller.kept_channels[f"{name}.o_proj"]
        groups = queries[:: 2 * HEAD] // (2 * HEAD)
        keys = torch.cat([torch.arange(HEAD) + group * HEAD for group in groups])
        assert torch.equal(queries, torch.cat([torch.arange(2 * HEAD) + group * 2 * HEAD for group in groups]))
        for leaf in ("weight", "bias"):
            assert torch.equal(getattr(new.q_proj, leaf), getattr(old.q_proj, leaf)[queries])
            assert torch.equal(getattr(new.k_proj, leaf), getattr(old.k_proj, leaf)[keys])
            assert torch.equal(getattr(new.v_proj, leaf), getattr(old.v_proj, leaf)[keys])
        assert new.o_proj.weight.shape == (96, 6 * HEAD)


@pytest.mark.parametrize("silent", [0, 3])
def test_heads_that_say_nothing_go_first_and_cost_nothing(
    models: dict[str, tuple[nn.Module, Seen]], silent: int, ids: Tensor
) -> None:
    base = copy.deepcopy(models["llama"][0])
    for block in range(BLOCKS):
        rows = base.get_submodule(f"model.layers.{block}.self_attn.v_proj").weight
        rows.data[silent * HEAD : (silent + 1) * HEAD] = 0  # type: ignore[index, operator]
    with torch.no_grad():
        smaller = reduce(base, heads=0.25, facts=Seen(base)).model
    torch.testing.assert_close(logits(smaller, ids), logits(base, ids), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_single_group_of_heads_still_runs(
    models: dict[str, tuple[nn.Module, Seen]], family: str, ids: Tensor
) -> None:
    base, seen = models[family]
    smaller = reduce(base, depth=0.9, width=0.9, heads=0.9, facts=seen).model
    assert smaller.config.num_key_value_heads == 1  # type: ignore[union-attr]
    assert logits(smaller, ids).isfinite().all()


@pytest.mark.parametrize(("removed", "kept"), [(0.25, 2), (0.1, 4), (0.5, 2), (0.75, 1)])
def test_a_number_of_heads_that_a_config_refuses_becomes_the_nearest(removed: float, kept: int) -> None:
    """Six heads do not divide a hidden size of 64, and Llama insists."""
    with torch.device("meta"):
        base = LlamaForCausalLM(LlamaConfig(**GROUPED | {"hidden_size": 64}))
    smaller = reduce(base, heads=removed, facts=None)
    assert smaller.model.config.num_key_value_heads == kept
    assert bool(smaller.note) == (removed == 0.25) and (smaller.model is base) == (kept == 4)
