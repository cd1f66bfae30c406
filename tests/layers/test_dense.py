"""Widened or not, the product and its gradients are the same numbers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from explorer.layers import dense


@pytest.fixture(params=[True, False])
def widened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(dense, "WIDENS", request.param)
    monkeypatch.setattr(dense, "WIDENS_HALF", request.param)
    monkeypatch.setattr(dense, "PIECE", 24)
    return bool(request.param)


@pytest.mark.parametrize("tokens", (1, 15, 16, 40))
@pytest.mark.parametrize("biased", (True, False))
@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
def test_the_product_and_its_gradients_are_those_of_float32(
    widened: bool, tokens: int, biased: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, tokens, 32).to(dtype).requires_grad_()
    weight = torch.randn(70, 32).to(dtype).requires_grad_()
    bias = torch.randn(70).to(dtype) if biased else None
    y, slope = dense.linear(x, weight, bias), torch.randn(2, tokens, 70).to(dtype)
    y.backward(slope)
    assert y.dtype == dtype and x.grad is not None and weight.grad is not None
    wide_x, wide_weight = (t.detach().float().requires_grad_() for t in (x, weight))
    exact = F.linear(wide_x, wide_weight, None if bias is None else bias.float())
    exact.backward(slope.float())
    assert wide_x.grad is not None and wide_weight.grad is not None
    for ours, theirs in ((y, exact), (x.grad, wide_x.grad), (weight.grad, wide_weight.grad)):
        assert (ours.float() - theirs).abs().max() < 0.02 * theirs.abs().max()


def test_adopted_layers_keep_their_weights_and_what_they_give(widened: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 8, bias=False)).bfloat16()
    x = torch.randn(20, 32).bfloat16()
    before, weights = model(x).float(), list(model.parameters())
    dense.replace_linear_layers(model)
    assert all(a is b for a, b in zip(weights, model.parameters(), strict=True))
    assert type(model[0]) is dense.Linear and type(model[2]) is dense.Linear
    assert (model(x).float() - before).abs().max() < 0.02 * before.abs().max()


def test_other_dtypes_are_left_to_torch(widened: bool) -> None:
    x, weight = torch.randn(20, 32), torch.randn(70, 32)
    assert torch.equal(dense.linear(x, weight), F.linear(x, weight))


def test_wide_attention_gives_what_torch_gives(widened: bool) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 20, 16).bfloat16() for _ in range(3))
    plain = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    with dense.WideAttention():
        found = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert found.dtype == plain.dtype and (found - plain).abs().max() < 0.03
