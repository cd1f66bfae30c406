"""Without its cheapest blocks a model is what it is by hand, and its config says so."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
)

from explorer.layers.targets import blocks_of
from explorer.model.structure import reduce
from tests.model.smaller import (
    Seen,
    logits,
    shapes,
)


@pytest.mark.parametrize("method, kept", [("influence", [0, 1, 4]), ("angular", [0, 3, 4])])
def test_depth_drops_the_cheapest_and_renumbers(
    models: dict[str, tuple[nn.Module, Seen]], family: str, method: Any, kept: list[int]
) -> None:
    """The scores say 4, 2, 3, but the last block is protected."""
    base, seen = models[family]
    smaller = reduce(base, depth=0.4, depth_method=method, facts=seen)
    path, blocks = blocks_of(smaller.model)
    assert [smaller.origin[f"{path}.{place}"] for place in range(3)] == [f"{path}.{block}" for block in kept]
    numbers = [[m.layer_idx for m in block.modules() if hasattr(m, "layer_idx")] for block in blocks]
    assert all(found and set(found) == {place} for place, found in enumerate(numbers))
    assert not smaller.changed and shapes(smaller.model).keys() < shapes(base).keys()


def test_depth_is_the_base_without_those_blocks(models: dict[str, tuple[nn.Module, Seen]], ids: Tensor) -> None:
    """By hand: the hidden state passes the dropped block by."""
    base, seen = models["neox"]
    by_hand = copy.deepcopy(base)
    _, blocks = blocks_of(by_hand)
    for block in (2, 3):
        blocks[block].forward = lambda hidden, *_, **__: hidden  # type: ignore[method-assign]
    expected = logits(by_hand, ids)
    assert torch.equal(logits(reduce(base, depth=0.4, facts=seen).model, ids), expected)
    assert not torch.allclose(logits(base, ids), expected)


def test_settings_by_block_follow_their_blocks(
    models: dict[str, tuple[nn.Module, Seen]], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, seen = models["qwen2"]
    monkeypatch.setattr(seen, "drop_scores", torch.tensor([9.0, 0.0, 5.0, 1.0, 9.0]))
    old: Any = base.config
    config: Any = reduce(base, depth=0.4, facts=seen).model.config
    assert config.layer_types == [old.layer_types[block] for block in (0, 2, 4)] != old.layer_types[:3]
    assert config.num_hidden_layers == 3


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
