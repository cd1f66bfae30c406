"""Codes to packed bytes and back."""

import numpy as np
import pytest
import torch

from explorer.methods import bits

WIDTHS = [1, 3, 7, 8, 9, 24, 63, 64, 65, 100]


@pytest.mark.parametrize("width", range(1, 9))
@pytest.mark.parametrize("columns", WIDTHS)
def test_unpack_of_pack_is_the_same(width: int, columns: int) -> None:
    codes = torch.randint(0, 2**width, (5, columns), dtype=torch.uint8)
    packed = bits.pack(codes, width)
    assert packed.dtype == torch.uint8 and packed.shape == (5, bits.packed_width(columns, width))
    assert torch.equal(bits.unpack(packed, width, columns), codes)


@pytest.mark.parametrize("width", range(1, 9))
def test_every_code_survives_in_every_place(width: int) -> None:
    every = torch.arange(2**width, dtype=torch.uint8)
    codes = torch.stack([every.roll(shift) for shift in range(8)])
    assert torch.equal(bits.unpack(bits.pack(codes, width), width, 2**width), codes)


@pytest.mark.parametrize("width", range(1, 9))
def test_eight_codes_take_as_many_bytes_as_a_code_has_bits(width: int) -> None:
    assert [bits.packed_width(columns, width) for columns in (1, 8, 9, 64)] == [width, width, 2 * width, 8 * width]
    assert sum(bits.planes(width)) == width


@pytest.mark.parametrize("width", range(1, 9))
def test_packing_does_not_change_the_codes_it_was_given(width: int) -> None:
    codes = torch.randint(0, 2**width, (3, 16), dtype=torch.uint8)
    before = codes.clone()
    bits.unpack(bits.pack(codes, width), width, 16)
    assert torch.equal(codes, before)


@pytest.mark.parametrize("columns", WIDTHS)
def test_masks_survive_packing(columns: int) -> None:
    mask = torch.rand(6, columns) < 0.4
    bitmap = bits.pack_mask(mask)
    assert bitmap.shape == (6, -(-columns // 8))
    assert torch.equal(bits.unpack_mask(bitmap, columns), mask)


def test_a_bitmap_is_numpys_order_so_that_others_can_read_it() -> None:
    mask = torch.tensor([[True, False, False, False, False, False, False, False, True]])
    assert bits.pack_mask(mask).tolist() == [[128, 128]] == np.packbits(mask.numpy(), axis=1).tolist()


@pytest.mark.parametrize("width", range(1, 9))
def test_taken_codes_are_those_of_the_unpacked_row(width: int) -> None:
    codes = torch.randint(0, 2**width, (1, 77), dtype=torch.uint8)
    index = torch.tensor([[0, 76, 8], [3, 3, 41]])
    assert torch.equal(bits.take(bits.pack(codes, width), width, 77, index), codes[0, index])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.uint8])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_selected_values_lie_in_order_and_spread_back(dtype: torch.dtype, share: float) -> None:
    matrix = (torch.randn(7, 19) * 9).abs().to(dtype).t()  # not contiguous
    mask = torch.rand(19, 7) < share
    values = bits.select(matrix, mask)
    assert torch.equal(values, matrix.masked_select(mask))
    assert torch.equal(bits.spread(values, mask), matrix * mask)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_masked_is_zero_where_the_mask_is_false(dtype: torch.dtype) -> None:
    matrix = torch.tensor([[1.5, -2.0, torch.inf], [0.0, 3.0, -0.25]]).to(dtype)
    mask = torch.tensor([[True, False, True], [False, True, True]])
    expected = torch.where(mask, matrix, torch.zeros((), dtype=dtype))
    assert torch.equal(bits.masked(matrix, mask), expected)
