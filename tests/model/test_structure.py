"""Smaller models of five families: they run, they open again plainly, and nothing happens to the base."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from explorer.layers.dense import replace_linear_layers
from explorer.layers.targets import blocks_of
from explorer.model.opening import Loaded
from explorer.model.structure import reduce

BLOCKS, HEAD = 5, 16
SIZES = {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": BLOCKS, "num_attention_heads": 4}
SIZES |= {"max_position_embeddings": 128, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
GQA = SIZES | {
    "hidden_size": 96,
    "intermediate_size": 128,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": HEAD,
}
BUILD: dict[str, Callable[[], nn.Module]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**GQA, tie_word_embeddings=True)),
    "qwen2": lambda: Qwen2ForCausalLM(
        Qwen2Config(**GQA, use_sliding_window=True, sliding_window=8, max_window_layers=2)
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=300, n_embd=64, n_layer=BLOCKS, n_head=4, n_positions=128, pad_token_id=0)
    ),
    "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, intermediate_size=128)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**SIZES, ffn_dim=128, word_embed_proj_dim=64)),
}
MLP = {"llama": "mlp.down_proj", "qwen2": "mlp.down_proj", "gpt2": "mlp.c_proj", "neox": "mlp.dense_4h_to_h"}
MLP |= {"opt": "fc2"}
EXTREMES = [{"depth": 0.9}, {"width": 0.9}, {"width": 0.9, "width_method": "flap"}]
EVERYTHING: dict[str, Any] = {"depth": 0.4, "width": 0.5, "heads": 0.5}


class Seen:
    """What a pass over a few tokens tells of each linear layer's inputs."""

    def __init__(self, model: nn.Module) -> None:
        self.inputs: dict[str, Tensor] = {}
        self.drop_scores = torch.tensor([9.0, 4.0, 1.0, 3.0, 0.0])
        self.angles = torch.rand(6, 6) + 1
        self.angles[1, 3] = 0.1  # blocks 1 and 2 change the least together
        hooks = [
            module.register_forward_pre_hook(self._note(name))
            for name, module in model.named_modules()
            if isinstance(getattr(module, "weight", None), Tensor) and not isinstance(module, nn.Embedding)
        ]
        model(torch.randint(2, 300, (8, 64), generator=torch.Generator().manual_seed(2)))
        for hook in hooks:
            hook.remove()

    def gram(self, name: str) -> Tensor:
        return self.inputs[name].T @ self.inputs[name] / len(self.inputs[name])

    def mean(self, name: str) -> Tensor:
        return self.inputs[name].mean(dim=0)

    def _note(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.inputs[name] = inputs[0].detach().float().flatten(0, -2)

        return hook


@pytest.fixture(scope="module")
def models() -> dict[str, tuple[nn.Module, Seen]]:
    """Random models with strong weights and with biases that show when they are lost."""
    torch.manual_seed(0)
    found = {}
    for family, build in BUILD.items():
        model = build().eval().requires_grad_(False)
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 or name.endswith("bias"):
                nn.init.normal_(parameter, std=0.15)
        with torch.no_grad():
            found[family] = model, Seen(model)
    return found


@pytest.fixture(params=BUILD)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def logits(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(ids).logits
    return found


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def possible(family: str) -> dict[str, Any]:
    """Everything at once, but for the heads where a family cannot lose them."""
    return EVERYTHING if family in ("llama", "qwen2") else EVERYTHING | {"heads": 0.0}


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


def test_generating_with_and_without_a_cache_is_the_same(
    models: dict[str, tuple[nn.Module, Seen]], family: str, ids: Tensor
) -> None:
    base, seen = models[family]
    model: Any = reduce(base, **possible(family), facts=seen).model
    settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    cached, plain = (model.generate(ids[:, :6], use_cache=use, **settings) for use in (True, False))
    assert torch.equal(cached, plain) and cached.shape[1] == 18


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


def test_channels_that_are_silent_go_first_and_cost_nothing(
    models: dict[str, tuple[nn.Module, Seen]], family: str, ids: Tensor
) -> None:
    base = copy.deepcopy(models[family][0])
    path, _ = blocks_of(base)
    for block in range(BLOCKS):
        weight: Any = base.get_submodule(f"{path}.{block}.{MLP[family]}").weight
        (weight.data if family == "gpt2" else weight.data.T)[::2] = 0
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


@pytest.mark.parametrize("method", ["nystrom", "flap"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_opens_again_plainly_bit_for_bit(
    models: dict[str, tuple[nn.Module, Seen]], family: str, method: Any, dtype: torch.dtype, tmp_path: Path, ids: Tensor
) -> None:
    base, seen = models[family]
    base.save_pretrained(tmp_path / "base")  # type: ignore[operator]
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=dtype).eval()
    model: Any = reduce(base, **possible(family), width_method=method, facts=seen).model
    model.save_pretrained(tmp_path)
    again, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    assert shapes(again) == shapes(model) and torch.equal(
        logits(replace_linear_layers(again.eval()), ids), logits(model, ids)
    )
    assert {t.dtype for t in model.state_dict().values()} == {dtype}


def test_gpt2_opened_as_linear_layers_is_cut_alike(gpt2: Loaded, ids: Tensor) -> None:
    plain = AutoModelForCausalLM.from_pretrained(gpt2.folder).eval()
    found = []
    for base in (plain, gpt2.model):
        with torch.no_grad():
            seen = Seen(base)
            seen.drop_scores = torch.tensor([0.0, 1.0])
        found.append(reduce(base, depth=0.5, width=0.5, facts=seen).model)
    assert isinstance(found[1].get_submodule("transformer.h.0.mlp.c_fc"), nn.Linear)
    torch.testing.assert_close(logits(found[1], ids), logits(found[0], ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shares", [*EXTREMES, {"depth": 0.9, "width": 0.9}])
def test_extremes_still_run(
    models: dict[str, tuple[nn.Module, Seen]], family: str, shares: dict[str, Any], ids: Tensor
) -> None:
    base, seen = models[family]
    smaller = reduce(base, **shares, facts=seen).model
    assert logits(smaller, ids).isfinite().all()
    assert len(blocks_of(smaller)[1]) == (1 if "depth" in shares else BLOCKS)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_single_group_of_heads_still_runs(
    models: dict[str, tuple[nn.Module, Seen]], family: str, ids: Tensor
) -> None:
    base, seen = models[family]
    smaller = reduce(base, depth=0.9, width=0.9, heads=0.9, facts=seen).model
    assert smaller.config.num_key_value_heads == 1  # type: ignore[union-attr]
    assert logits(smaller, ids).isfinite().all()


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
