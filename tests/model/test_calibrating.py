"""Calibration text through a model: sums that equal a pass by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from explorer.layers.targets import blocks_of, siblings, targets
from explorer.model import calibrating
from explorer.model.calibrating import Gather, add_gram, draw, felt, first_windows, mirrored, windows_of
from explorer.model.opening import Loaded

Seen = list[tuple[str, Tensor, Tensor]]


def gradients_of(model: nn.Module, ids: Tensor, input_of: dict[str, str], seed: int) -> Seen:
    """What `felt` shows, in the order of the way back."""
    seen: Seen = []
    felt(model, ids, input_of, seed, lambda name, x, g: seen.append((name, x, g)))
    return seen


def windows(count: int = 3, length: int = 20) -> list[Tensor]:
    noise = torch.Generator().manual_seed(9)
    return [torch.randint(2, 300, (1, length + i), generator=noise) for i in range(count)]


@torch.no_grad()
def inputs_by_hand(model: nn.Module, name: str, texts: list[Tensor]) -> Tensor:
    seen: list[Tensor] = []
    hook = model.get_submodule(name).register_forward_pre_hook(lambda _, given: seen.append(given[0][0].float()))
    for ids in texts:
        model(input_ids=ids)
    hook.remove()
    return torch.cat(seen)


def test_sums_are_those_of_a_pass_by_hand(any_model: Loaded) -> None:
    gather = Gather(any_model.model)
    for ids in windows():
        gather.run(ids)
    means, close = dict(gather.means(last=True)), {"rtol": 0.0, "atol": 0.0}
    assert gather.tokens == 63
    for target in targets(any_model.model):
        if target.kind not in ("attention", "mlp"):
            continue
        x = inputs_by_hand(any_model.model, target.name, windows())
        key, gram = gather.input_of[target.name], x.T @ x / 63
        near = 2.0**-7 if any_model.model.dtype == torch.bfloat16 else 1e-5
        close = {"rtol": near, "atol": near * float(gram.diagonal().mean())}
        torch.testing.assert_close(means[f"{key}|gram"], gram, **close)
        torch.testing.assert_close(means[f"{key}|mean"], x.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(means[f"{key}|size"], x.abs().mean(0), rtol=1e-4, atol=1e-5)


def test_siblings_share_one_sum(llama: Loaded) -> None:
    gather = Gather(llama.model)
    gather.run(windows()[0])
    for group in siblings(llama.model):
        assert {gather.input_of[name] for name in group} == {group[0]}
    assert len({name for name, _, _ in (key.partition("|") for key in gather.sums)}) == 2 * 4


def test_angles_and_influence_are_those_of_the_hidden_states(any_model: Loaded) -> None:
    model = any_model.model
    gather, texts = Gather(model), windows()
    for ids in texts:
        gather.run(ids)
    found, kept = dict(gather.means(last=True)), list[Tensor]()
    path, blocks = blocks_of(model)

    def before(_: nn.Module, given: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        kept.append((given[0] if given else named["hidden_states"]).reshape(-1, 64).double())

    def after(_: nn.Module, __: Any, output: Any) -> None:
        kept.append((output[0] if isinstance(output, tuple) else output).reshape(-1, 64).double())

    hooks = [block.register_forward_pre_hook(before, with_kwargs=True) for block in blocks]
    hooks.append(blocks[-1].register_forward_hook(after))
    for ids in texts:
        with torch.no_grad():
            model(input_ids=ids)
    for hook in hooks:
        hook.remove()
    step = len(blocks) + 1
    places = [torch.cat(kept[i::step]) for i in range(step)]
    for i in range(len(blocks)):
        cosine = torch.cosine_similarity(places[i], places[i + 1], dim=1)
        angle = float(cosine.arccos().mean() / torch.pi)
        assert float(found["blocks|influence"][i]) == pytest.approx(float(1 - cosine.mean()), abs=1e-4)
        assert float(found["blocks|angles"][i, i + 1]) == pytest.approx(angle, abs=1e-3)
    assert path and found["blocks|angles"].shape == (len(blocks) + 1, len(blocks) + 1)


@pytest.mark.parametrize("loud", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_gram_is_as_exact_as_sums_in_float32(loud: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks of columns, one of them smaller, and even where one token outshouts all others."""
    monkeypatch.setattr(calibrating, "BLOCK", 12)
    x = torch.randn(300, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    if loud:
        x[0] *= 1000
    total = torch.zeros(32, 32)
    for part in x.split(100):
        add_gram(total, part)
    torch.testing.assert_close(mirrored(total).double(), x.double().T @ x.double(), rtol=1e-5, atol=1e-3)
    assert torch.backends.mkldnn.matmul.fp32_precision != "bf16"  # others' products stay as they were


def test_felt_gives_the_gradients_of_autograd(llama32: Loaded) -> None:
    model, ids = llama32.model, windows()[0]
    gather = Gather(model)
    found = {name: (x, g) for name, x, g in gradients_of(model, ids, gather.input_of, 3)}
    assert found.keys() == gather.input_of.keys()
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            outputs[name] = output if output.requires_grad else output.requires_grad_(True)
            outputs[name].retain_grad()
            return outputs[name]

        return hook

    hooks = [model.get_submodule(name).register_forward_hook(keep(name)) for name in found]
    with torch.enable_grad():
        start = model.get_input_embeddings()(ids).detach().requires_grad_(True)
        logits = model(inputs_embeds=start, use_cache=False).logits[0]
        noise = torch.Generator().manual_seed(3)
        labels = draw(logits.detach().softmax(-1), noise)[:, 0]
        nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    for hook in hooks:
        hook.remove()
    for name, (x, g) in found.items():
        grad = outputs[name].grad
        assert grad is not None and grad.abs().max() > 0
        torch.testing.assert_close(g, grad[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(x, inputs_by_hand(model, name, [ids]), rtol=1e-4, atol=1e-5)
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_felt_works_inside_inference_mode_and_leaves_no_hook(llama: Loaded) -> None:
    with torch.inference_mode():
        found = gradients_of(llama.model, windows()[0], Gather(llama.model).input_of, 0)
    assert len(found) == 14 and all(g.isfinite().all() for _, _, g in found)
    assert not any(m._forward_pre_hooks or m._backward_hooks or m._forward_hooks for m in llama.model.modules())


def test_windows_hold_every_kind_from_the_start(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = {"a": ["the cat sat on the mat " * 200], "b": ["the dog ran to the river " * 100]}
    found = windows_of(tokenizer, texts, tokens=600, length=100)
    assert all(window.shape[0] == 1 and 1 < window.shape[1] <= 100 for window in found)
    assert 600 <= sum(window.shape[1] for window in found) < 700
    assert all(window[0, 0] == tokenizer.bos_token_id for window in found)
    begins = [tokenizer.decode(window[0, 1:]) for window in found[:3]]
    assert any("dog" in text for text in begins) and any("cat" in text for text in begins)
    assert windows_of(tokenizer, texts, tokens=600, length=100)[0].equal(found[0])


def test_the_first_windows_hold_so_many_tokens() -> None:
    texts = windows(5, 20)
    assert [window.shape[1] for window in first_windows(texts, 41)] == [20, 21]
    assert [window.shape[1] for window in first_windows(texts, 42)] == [20, 21, 22]
    assert len(first_windows(texts, 0)) == 1 and len(first_windows(texts, 10**6)) == 5


def test_columns_are_drawn_as_often_as_they_are_likely() -> None:
    odds = torch.tensor([0.5, 0.0, 0.3, 0.2])
    found = draw(odds.expand(20_000, 4), torch.Generator().manual_seed(0))
    shares = found.flatten().bincount(minlength=4) / 20_000
    assert (shares - odds).abs().max() < 0.02 and shares[1] == 0
