"""Compiled encoding against plain torch and numpy: bit for bit, for every width, grouping, dtype and ragged shape."""

import pytest
import torch
from torch import Tensor

from explorer.methods import bits as plain
from explorer.methods import quantize
from explorer.native import encoding, llvm

pytestmark = pytest.mark.skipif(not llvm.available(), reason="nothing is compiled on this processor")
SHAPES = [(16, 64), (50, 128), (1, 64), (17, 100), (30, 65), (7, 1), (300, 520)]
GROUPS = [0, 32, 64]
NUMBERS = [torch.bfloat16, torch.float32]


def weights(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 0.1
    drawn[0] = 0  # a group of nothing
    drawn[-1] = drawn[-1].abs()  # and one that does not reach zero
    return drawn.to(dtype)


def masks(shape: tuple[int, int], kept: int) -> Tensor:
    order = torch.rand(shape, generator=torch.Generator().manual_seed(4)).argsort(1)
    return torch.zeros(shape, dtype=torch.bool).scatter_(1, order[:, :kept], True)


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("shape", SHAPES)
def test_rounding_and_decoding_are_those_of_torch(
    shape: tuple[int, int], bits: int, group: int, dtype: torch.dtype
) -> None:
    weight = weights(shape, dtype)
    scale, zero = encoding.grid(weight, bits, group)
    for found, wanted in zip((scale, zero), quantize.grid(weight, bits, group), strict=True):
        assert torch.equal(found, wanted)
    codes = encoding.round_on(weight, scale, zero, bits, group)
    assert torch.equal(codes, quantize.round_on(weight, scale, zero, bits, group))
    decoded = encoding.dequantize(codes, scale, zero, group, dtype)
    assert torch.equal(decoded, quantize.dequantize(codes, scale, zero, group, dtype)) and decoded.dtype == dtype
    narrower = scale * 0.5  # what lies outside a range is cut to its ends
    assert torch.equal(
        encoding.round_on(weight, narrower, zero, bits, group),
        quantize.round_on(weight, narrower, zero, bits, group),
    )


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("shape", SHAPES)
def test_packing_is_that_of_torch(shape: tuple[int, int], bits: int) -> None:
    codes = torch.randint(0, 2**bits, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    packed = encoding.pack(codes, bits)
    assert torch.equal(packed, plain.pack(codes, bits)) and torch.equal(plain.unpack(packed, bits, shape[1]), codes)
    assert torch.equal(encoding.pack(codes.T, bits), plain.pack(codes.T.contiguous(), bits))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.uint8], ids=str)
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_mask_leaves_is_that_of_numpy_and_comes_back(
    shape: tuple[int, int], flat: bool, dtype: torch.dtype
) -> None:
    kept = max(1, shape[1] // 3)
    matrix = (weights(shape, torch.float32) * 1000).to(dtype)
    mask = masks(shape, kept)
    into = (1, shape[0] * kept) if flat else (shape[0], kept)
    values = encoding.select(matrix, mask, into)
    assert torch.equal(values, plain.select(matrix, mask).view(into)) and values.dtype == dtype
    whole = encoding.spread(values, mask)
    assert torch.equal(whole, matrix.masked_fill(~mask, 0)) and torch.equal(encoding.masked(matrix, mask), whole)
    assert torch.equal(encoding.masked(matrix.T, mask.T), whole.T)


@pytest.mark.parametrize("width", [4, 8])
def test_lanes_hold_eight_rows_side_by_side(width: int) -> None:
    codes = torch.randint(0, 2**width, (16, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    lanes, per = encoding.lanes(codes, width), 32 // width
    assert lanes.shape == (2, 64 // per, 8)
    for row, column in ((0, 0), (5, 9), (8, 63), (15, 31)):
        lane = int(lanes[row // 8, column // per, row % 8])
        assert (lane >> (column % per * width)) & (2**width - 1) == codes[row, column]


def test_nothing_is_nothing_and_unknown_kinds_are_left_to_torch() -> None:
    empty = torch.zeros(0, 8)
    assert torch.equal(encoding.masked(empty, empty > 0), empty)
    half = torch.randn(4, 8).half()
    scale, zero = encoding.grid(half, 4, 0)
    assert torch.equal(encoding.round_on(half, scale, zero, 4, 0), quantize.round_on(half, scale, zero, 4, 0))
    wide = torch.randn(4, 8, dtype=torch.float64)
    assert torch.equal(encoding.masked(wide, wide > 0), wide.clamp(min=0))
