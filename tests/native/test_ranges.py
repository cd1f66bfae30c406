"""The compiled search for a range against plain torch."""

import pytest
import torch

from explorer.methods import quantize
from explorer.native import encoding, llvm
from tests.native.test_encoding import NUMBERS, SHAPES, weights

pytestmark = pytest.mark.skipif(not llvm.available(), reason="nothing is compiled on this processor")


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("weighed", ["alike", "by column", "each"])
@pytest.mark.parametrize("bits, group", [(2, 64), (3, 0), (4, 32), (4, 64), (5, 64), (8, 0)])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_range_that_is_searched_is_that_of_torch(
    shape: tuple[int, int], bits: int, group: int, weighed: str, dtype: torch.dtype
) -> None:
    """But for groups where two ranges are as good as each other: sums are taken in another order."""
    weight = weights(shape, dtype)
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(5)) ** 4 + 1e-3
    importance = {"alike": None, "by column": drawn[0], "each": drawn}[weighed]
    found, wanted = (method.search_grid(weight, bits, group, importance) for method in (encoding, quantize))
    assert all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in zip(found, wanted, strict=True))
    other = (found[0] != wanted[0]) | (found[1] != wanted[1])
    assert other.sum() <= 0.002 * other.numel()
    errors = []
    for scale, zero in (found, wanted):
        codes = quantize.round_on(weight, scale, zero, bits, group)
        apart = quantize.dequantize(codes, scale, zero, group, torch.float32) - weight.float()
        errors.append(float((apart.square() * (1 if importance is None else importance)).sum()))
    assert errors[0] == pytest.approx(errors[1], rel=1e-4)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30])
def test_weights_of_any_size_have_a_range_that_is_a_number(size: float) -> None:
    scale, zero = encoding.search_grid(weights((9, 100), torch.float32) * size, 4, 64)
    assert scale.isfinite().all() and (scale > 0).all() and (zero <= 15).all()
