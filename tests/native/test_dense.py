"""The compiled product of few tokens against float32: dtypes, ragged shapes, one token as many, what is no number."""

import pytest
import torch
from torch.nn import functional as F

from explorer.layers.dense import FEW, linear
from explorer.native import dense, llvm

compiles = pytest.mark.skipif(not llvm.available(), reason="nothing compiles products for this processor")
SHAPES = [(1, 1), (4, 16), (5, 31), (3, 32), (64, 33), (7, 64), (130, 576), (2, 1000)]


def drawn(*shape: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@compiles
@pytest.mark.parametrize("dtype", list(dense.NAMES), ids=str)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tokens", [1, 3, 17])
def test_sums_are_those_of_float32_rounded_once(tokens: int, shape: tuple[int, int], dtype: torch.dtype) -> None:
    x, weight = drawn(tokens, shape[1], dtype=dtype), drawn(*shape, dtype=dtype, seed=1)
    exact = F.linear(x.double(), weight.double())
    y = dense.multiply(x, weight)
    allowed = torch.finfo(dtype).eps * exact.abs() / 2 + 1e-5 * F.linear(x.double().abs(), weight.double().abs())
    assert y.dtype == dtype and y.shape == exact.shape
    assert ((y.double() - exact).abs() <= allowed).all()


@compiles
def test_a_token_gets_by_itself_what_it_gets_among_others() -> None:
    x, weight = drawn(2, 3, 100), drawn(33, 100, seed=1)
    y = dense.multiply(x, weight)
    assert y.shape == (2, 3, 33)
    assert torch.equal(y[1, 2], dense.multiply(x[1, 2], weight))
    assert dense.multiply(x[:, :0], weight).shape == (2, 0, 33)


@compiles
@pytest.mark.parametrize("dtype", list(dense.NAMES), ids=str)
def test_what_is_no_number_stays_none(dtype: torch.dtype) -> None:
    x, weight = torch.ones(1, 40, dtype=dtype), torch.ones(6, 40, dtype=dtype)
    weight[0, 3], weight[1, 39], weight[2, 0] = float("nan"), float("inf"), float("-inf")
    weight[3, 5], weight[3, 6] = float("inf"), float("-inf")
    y = dense.multiply(x, weight)[0]
    assert y[0].isnan() and y[1] == float("inf") and y[2] == float("-inf") and y[3].isnan()
    assert (y[4:] == 40).all()


@compiles
def test_few_tokens_take_it_and_training_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, called = drawn(1, 64), drawn(8, 64, seed=1), list[int]()
    product = dense.multiply
    monkeypatch.setattr(dense, "multiply", lambda x, w: called.append(len(x)) or product(x, w))
    bias = drawn(8, seed=2)
    torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias), rtol=0.02, atol=0.02)
    linear(drawn(FEW, 64), weight)
    linear(drawn(FEW + 1, 64), weight)
    linear(x.float(), weight.float())
    linear(x, drawn(64, 8).T)  # not one row behind the other
    assert called == [1, FEW]
    x.requires_grad_()
    linear(x, weight).sum().backward()
    assert x.grad is not None and called == [1, FEW]
