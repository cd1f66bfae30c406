"""The compiled product against decoded weights: every width, grouping, dtype and ragged shape."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from explorer.layers import choice, kernels
from explorer.layers.storage import Spec, Stored
from explorer.methods import quantize
from explorer.native import llvm

Maker = Callable[..., Stored]
SHAPES = [(16, 64), (48, 128), (50, 128), (1, 64), (17, 80), (17, 100), (30, 65), (20, 168)]
GRIDS = [(2, 32), (3, 64), (4, 32), (4, 64), (4, 0), (4, 128), (5, 32), (6, 64), (7, 0), (8, 0), (8, 64)]
compiles = pytest.mark.skipif(not llvm.available(), reason="nothing compiles products for this processor")


def inputs(columns: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(2, 3, columns, generator=torch.Generator().manual_seed(6)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("bits, group", GRIDS)
@pytest.mark.parametrize("shape", SHAPES)
@compiles
def test_the_compiled_product_agrees_with_decoded_weights(
    stored_of: Maker, bits: int, group: int, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    """Rounding inputs to int16 costs at most half a step of a group's largest; float32 shows it, free of bfloat16."""
    stored = stored_of(shape, Spec(bits=bits, group=group), dtype)
    assert kernels.Compiled in choice.candidates(stored)
    x = inputs(shape[1], dtype)
    y = kernels.Compiled(stored)(x)
    weight = quantize.dequantize(stored.codes(), stored.scale, stored.zeros(), stored.group, torch.float32)
    exact = F.linear(x.float(), weight)
    assert y.shape == exact.shape and y.dtype == dtype
    allowed = 0.6 / 32767 * x.float().abs().amax(-1, keepdim=True) * weight.abs().sum(1)
    allowed = allowed + torch.finfo(dtype).eps * exact.abs() + 1e-6
    assert ((y.float() - exact).abs() <= allowed).all()


@compiles
def test_the_compiled_product_knows_what_is_no_number_and_what_is_nothing(stored_of: Maker) -> None:
    stored = stored_of((16, 64), Spec(bits=4))
    x = inputs(64)[0]
    x[0], x[1, 3], x[2, 5] = 0, float("nan"), float("inf")
    y = kernels.Compiled(stored)(x)
    assert (y[0] == 0).all() and y[1].isnan().all() and not y[2].isfinite().any()


@compiles
def test_no_input_gives_no_output(stored_of: Maker) -> None:
    assert kernels.Compiled(stored_of((16, 64), Spec(bits=4)))(inputs(64)[:, :0]).shape == (2, 0, 16)


@compiles
def test_the_compiled_product_gives_one_row_as_it_gives_many(stored_of: Maker) -> None:
    stored = stored_of((3072, 576), Spec(bits=4))  # more than one thread's share
    kernel, x = kernels.Compiled(stored), inputs(576)[0]
    assert torch.equal(torch.cat([kernel(row[None]) for row in x]), kernel(x))


@compiles
def test_compiled_codes_take_half_a_byte_or_one(stored_of: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    for bits, each in ((3, 0.5), (4, 0.5), (5, 1), (8, 1)):
        stored = stored_of((64, 128), Spec(bits=bits, group=64))
        held = sum(buffer.nbytes for buffer in kernels.Compiled(stored).buffers())
        assert held == 64 * 128 * each + 64 * 2 * 3  # codes, and two bytes of scale and one of zero for a group
