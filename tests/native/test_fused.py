"""What lies between products, against torch in float32: all shapes, both dtypes, and what is no number stays none."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from explorer.native import fused

pytestmark = pytest.mark.skipif(not fused.available(torch.empty(0)), reason="nothing is compiled on this processor")
DTYPES = [torch.bfloat16, torch.float32]
STEP = {torch.bfloat16: 2**-8, torch.float32: 4e-7}  # half a unit in the last place, of one


def near(found: Tensor, exact: Tensor) -> bool:
    """Within a rounding of the dtype, and a little for another order of sums."""
    return bool(((found.float() - exact).abs() <= 1.5 * STEP[found.dtype] * exact.abs() + 2e-6).all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows, width", [(1, 576), (3, 100), (2, 7), (1, 1)])
def test_residual_and_norm(rows: int, width: int, dtype: torch.dtype) -> None:
    x, y, weight = torch.randn(rows, width), torch.randn(rows, width).to(dtype), torch.randn(width)
    total = x + y.float()
    found = fused.Norm(weight, 1e-5, dtype)(x, y)
    assert torch.equal(x, total) and found.dtype == dtype
    assert near(found, F.rms_norm(total, (width,), weight, 1e-5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows, width", [(1, 1536), (3, 100), (2, 1)])
def test_the_gate(rows: int, width: int, dtype: torch.dtype) -> None:
    both = 6 * torch.randn(rows, 2 * width).to(dtype)
    first, second = both.float().chunk(2, dim=1)
    assert near(fused.gate(both), F.silu(first) * second)
    far = torch.tensor([[-1e4, 1e4, 0.0, 1.0, 1.0, 1.0]]).to(dtype)
    assert near(fused.gate(far), torch.tensor([[0.0, 1e4, 0.0]]).to(dtype).float())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "texts, heads, groups, size, place", [(1, 9, 3, 64, 127), (2, 4, 2, 16, 0), (1, 4, 4, 10, 5), (3, 9, 3, 64, 700)]
)
def test_attention(texts: int, heads: int, groups: int, size: int, place: int, dtype: torch.dtype) -> None:
    mixed = torch.randn(texts, (heads + 2 * groups) * size).to(dtype)
    keys, values = (torch.randn(texts, groups, place + 9, size).to(dtype) for _ in range(2))
    angle = 6 * torch.rand(size // 2)
    cos, sin = torch.cat([angle.cos()] * 2), torch.cat([-angle.sin(), angle.sin()])
    parts = mixed.float().view(texts, -1, size)
    turned = parts * cos + parts.roll(size // 2, 2) * sin
    q, k, _ = torch.split(turned, [heads, groups, groups], dim=1)
    wanted = keys.clone(), values.clone()
    wanted[0][:, :, place], wanted[1][:, :, place] = k.to(dtype), parts[:, heads + groups :].to(dtype)
    attend = fused.Attend(heads, groups, size, size**-0.5, dtype)
    found = attend(mixed, cos, sin, keys, values, place)
    assert torch.equal(values, wanted[1]) and near(keys, wanted[0].float())
    seen = [each[:, :, : place + 1].float() for each in (keys, values)]
    exact = F.scaled_dot_product_attention(q.view(texts, groups, -1, size), *seen, scale=size**-0.5)
    assert float((found.float() - exact.reshape(texts, -1)).abs().max()) < 2 * STEP[dtype]
    assert torch.equal(attend(mixed, cos, sin, keys, values, place), found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_is_not_mended(bad: float, dtype: torch.dtype) -> None:
    row = torch.tensor([[1.0, bad, 3.0, 4.0]])
    normed = fused.Norm(torch.ones(4), 1e-5, dtype)(row.clone(), torch.zeros(1, 4).to(dtype))
    assert not torch.isfinite(normed).all()
    assert not torch.isfinite(fused.gate(torch.tensor([[bad, 1.0, 2.0, 1.0]]).to(dtype))).all()
    mixed = torch.ones(1, 4 * 3).to(dtype)
    mixed[0, 1] = bad
    kept = torch.ones(1, 1, 3, 4).to(dtype)
    one = torch.ones(4)
    assert not torch.isfinite(fused.Attend(1, 1, 4, 1.0, dtype)(mixed, one, one, kept, kept.clone(), 0)).all()


def test_rows_that_do_not_lie_one_behind_the_other() -> None:
    wide = torch.randn(3, 20)
    assert torch.equal(fused.gate(wide[:, :16]), fused.gate(wide[:, :16].contiguous()))
    norm, x = fused.Norm(torch.ones(8), 1e-5, torch.float32), torch.randn(3, 8)
    assert torch.equal(norm(x.clone(), wide[:, :8]), norm(x.clone(), wide[:, :8].contiguous()))
