"""The channels that say the least go, and what they said is made up for."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Phi3Config,
    Phi3ForCausalLM,
)

from explorer.layers.targets import blocks_of
from explorer.model.structure import reduce
from tests.model.smaller import (
    BLOCKS,
    GROUPED,
    MLP,
    Seen,
    logits,
)


def test_channels_that_are_silent_go_first_and_cost_nothing(
    models: dict[str, tuple[nn.Module, Seen]], family: str, ids: Tensor
) -> None:
    base = copy.deepcopy(models[family][0])
    path, _ = blocks_of(base)
    for block in range(BLOCKS):
        weight: Any = base.get_submodule(f"{path}.{block}.{MLP[family]}").weight
        weight.data.T[::2] = 0
    with torch.no_grad():
        seen = Seen(base)
    for method in ("nystrom", "flap"):
        smaller = reduce(base, width=0.5, width_method=method, facts=seen)  # type: ignore[arg-type]
        for name, kept in smaller.kept_channels.items():
            gone = sorted(set(range(2 * len(kept))) - set(kept.tolist()))
            loud = [channel for channel in gone if channel % 2 and seen.inputs[smaller.origin[name]][:, channel].any()]
            assert len(kept) == len(gone) and not loud  # OPT's activation silences others all by itself
        torch.testing.assert_close(logits(smaller.model, ids), logits(base, ids), rtol=1e-3, atol=1e-3)


def test_the_bias_takes_the_mean_error_of_the_mlp_away(models: dict[str, tuple[nn.Module, Seen]], family: str) -> None:
    """On the inputs that were seen, the narrower matrix and its bias say the same on average."""
    base, seen = models[family]
    smaller = reduce(base, width=0.5, width_method="flap", facts=seen)
    path, _ = blocks_of(base)
    name = f"{path}.1.{MLP[family]}"
    old, new = base.get_submodule(name), smaller.model.get_submodule(name)
    kept = smaller.kept_channels[name]
    whole, less = old(seen.inputs[name]).mean(dim=0), new(seen.inputs[name][:, kept]).mean(dim=0)
    if family == "qwen2":
        assert "no place for a bias" in smaller.note and new.bias is None
    else:
        assert not smaller.note
        torch.testing.assert_close(less, whole, rtol=1e-4, atol=1e-4)


def test_making_up_comes_nearer_to_the_base_than_slicing(models: dict[str, tuple[nn.Module, Seen]]) -> None:
    base, seen = models["neox"]
    smaller = reduce(base, width=0.5, facts=seen)
    for name, kept in smaller.kept_channels.items():
        old, new, x = base.get_submodule(name), smaller.model.get_submodule(name), seen.inputs[name]
        sliced = x[:, kept] @ old.weight[:, kept].T + old.bias  # type: ignore[index, operator]
        assert (new(x[:, kept]) - old(x)).square().mean() < (sliced - old(x)).square().mean()


def test_gate_and_up_in_one_matrix_are_cut_alike(ids: Tensor) -> None:
    base = Phi3ForCausalLM(Phi3Config(**GROUPED)).eval().requires_grad_(False)
    for block in range(5):
        base.get_submodule(f"model.layers.{block}.mlp.down_proj").weight[:, 64:] = 0
    smaller = reduce(base, width=0.5, facts=None).model  # without facts the first channels stay
    assert smaller.get_submodule("model.layers.0.mlp.gate_up_proj").weight.shape == (128, 64)
    torch.testing.assert_close(smaller(ids).logits, base(ids).logits, rtol=1e-3, atol=1e-3)
