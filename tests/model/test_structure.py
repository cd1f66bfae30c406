"""Smaller models of five families: they run, they open again plainly, and nothing happens to the base."""

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
)

from explorer.layers.storage import tensors_of
from explorer.layers.targets import blocks_of
from explorer.layers.uniform import uniform
from explorer.model.exporting import _as_transformers
from explorer.model.structure import Reduced, reduce
from tests.model.smaller import (
    BLOCKS,
    BUILD,
    EVERYTHING,
    EXTREMES,
    Seen,
    llama_of_five,
    logits,
    possible,
    shapes,
)


def test_nothing_removed_is_the_base_itself(models: dict[str, tuple[nn.Module, Seen]], family: str) -> None:
    base, seen = models[family]
    for facts in (seen, None):
        same = reduce(base, depth=0.0, width=0.0, heads=0.0, facts=facts)
        assert same.model is base and not same.changed and not same.kept_channels and not same.note
        assert same.origin == {name: name for name, _ in base.named_modules()}


def test_the_base_is_untouched(models: dict[str, tuple[nn.Module, Seen]], family: str, ids: Tensor) -> None:
    base, seen = models[family]
    before, random = copy.deepcopy(base.state_dict()), torch.get_rng_state()
    config, expected = base.config.to_dict(), logits(base, ids)  # type: ignore[operator, union-attr]
    smaller = reduce(base, **possible(family), width_method="flap", facts=seen)
    smaller.model.config.vocab_size = 7  # type: ignore[union-attr, assignment]
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    assert base.config.to_dict() == config and torch.equal(logits(base, ids), expected)  # type: ignore[operator, union-attr]


def test_what_stays_whole_is_shared_and_what_changed_is_named(
    models: dict[str, tuple[nn.Module, Seen]], family: str
) -> None:
    base, seen = models[family]
    smaller = reduce(base, **possible(family), facts=seen)
    assert smaller.changed and smaller.kept_channels.keys() <= smaller.changed
    for new, module in smaller.model.named_modules():
        twin = base.get_submodule(smaller.origin[new])
        for leaf, tensor in module.named_parameters(recurse=False):
            assert (tensor is getattr(twin, leaf)) == (
                new not in smaller.changed or tensor.shape == getattr(twin, leaf).shape
            )
    for new, kept in smaller.kept_channels.items():
        assert kept.tolist() == sorted(set(kept.tolist()))
        assert len(kept) in smaller.model.get_submodule(new).weight.shape


def test_generating_with_and_without_a_cache_is_the_same(
    models: dict[str, tuple[nn.Module, Seen]], family: str, ids: Tensor
) -> None:
    base, seen = models[family]
    model: Any = reduce(base, **possible(family), facts=seen).model
    settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    cached, plain = (model.generate(ids[:, :6], use_cache=use, **settings) for use in (True, False))
    assert torch.equal(cached, plain) and cached.shape[1] == 18


def save_plainly(model: Any, folder: Path) -> None:
    model.config.save_pretrained(folder)
    tensors = {name: t.contiguous() for name, t in _as_transformers(model, tensors_of(model)).items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("method", ["nystrom", "flap"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_opens_again_plainly_bit_for_bit(
    models: dict[str, tuple[nn.Module, Seen]], family: str, method: Any, dtype: torch.dtype, tmp_path: Path, ids: Tensor
) -> None:
    base, seen = models[family]
    save_plainly(base, tmp_path / "base")
    base = uniform(AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=dtype).eval())
    model: Any = reduce(base, **possible(family), width_method=method, facts=seen).model
    save_plainly(model, tmp_path)
    again, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    again = uniform(again.eval())
    assert shapes(again) == shapes(model) and torch.equal(logits(again, ids), logits(model, ids))
    assert {t.dtype for t in model.state_dict().values()} == {dtype}


@pytest.mark.parametrize("shares", [*EXTREMES, {"depth": 0.9, "width": 0.9}])
def test_extremes_still_run(
    models: dict[str, tuple[nn.Module, Seen]], family: str, shares: dict[str, Any], ids: Tensor
) -> None:
    base, seen = models[family]
    smaller = reduce(base, **shares, facts=seen).model
    assert logits(smaller, ids).isfinite().all()
    assert len(blocks_of(smaller)[1]) == (1 if "depth" in shares else BLOCKS)


@pytest.mark.parametrize("shares", [*EXTREMES, EVERYTHING, {"width": 0.3, "width_method": "flap"}])
def test_shapes_without_weights_are_the_real_shapes(
    models: dict[str, tuple[nn.Module, Seen]], family: str, shares: dict[str, Any]
) -> None:
    base, seen = models[family]
    shares = shares | {"heads": possible(family)["heads"] if "heads" in shares else 0.0}
    with torch.device("meta"):
        empty = BUILD[family]()
    real, calculated = reduce(base, **shares, facts=seen), reduce(empty, **shares, facts=None)
    assert shapes(calculated.model) == shapes(real.model) and shapes(real.model) != shapes(base)
    assert all(tensor.is_meta for tensor in calculated.model.state_dict().values())
    assert not any(tensor.is_meta for tensor in [*real.model.parameters(), *real.model.buffers()])
    assert calculated.changed == real.changed and calculated.note == real.note
    assert calculated.kept_channels.keys() == real.kept_channels.keys()


def test_ties_stay_ties(models: dict[str, tuple[nn.Module, Seen]]) -> None:
    base, seen = models["llama"]
    smaller: Any = reduce(base, **EVERYTHING, facts=seen).model
    assert smaller.lm_head.weight is smaller.model.embed_tokens.weight


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
