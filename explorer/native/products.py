"""Products with packed codes, compiled at run time for this processor by LLVM. torch's own int4 product is bound by
arithmetic on processors without AVX-512; here codes meet inputs as integers of 16 bits, sixteen in an instruction.

A row of inputs is rounded to int16 within each group (32,767 steps up to its largest: finer than bfloat16), so that
y = Σ over groups of scale · step · (codes · rounded − zero · Σ rounded). Sums of integers are exact. Codes lie as the
loop reads them: a lane of 32 bits holds some columns of one row, eight rows stand side by side in a vector.
"""

import ctypes
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from explorer.native.encoding import lanes
from explorer.native.llvm import build
from explorer.native.product_code import LANES, program

GRAIN = 2**15  # weights from which a second thread pays


def width(bits: int) -> int:
    """Bits that a code of `bits` takes in memory here."""
    return 4 if bits <= 4 else 8


def by_lane(values: Tensor) -> Tensor:
    """(rows, groups) → (blocks, groups, 8), rows in eights: what one vector loads of a group's scales or zeros."""
    return values.view(-1, LANES, values.shape[1]).transpose(1, 2).contiguous()


class Packed:
    """A matrix as the compiled product reads it: of (rows, columns) codes, (rows, groups) scales in float16 and zeros,
    rows in eights and columns in whole groups of eights."""

    def __init__(self, codes: Tensor, scale: Tensor, zero: Tensor, bits: int) -> None:
        (self.rows, self.columns), self.groups = codes.shape, scale.shape[1]
        self.codes, self.scale, self.zero = lanes(codes, width(bits)), by_lane(scale), by_lane(zero)
        self.width, self.group = width(bits), self.columns // self.groups
        self.counts = self.groups, self.rows // LANES, max(1, GRAIN // (self.columns * LANES))

    def multiply(self, x: Tensor) -> Tensor:
        """x (tokens, columns) contiguous, bfloat16 or float32 → (tokens, rows) in the same dtype."""
        tokens = x.shape[0]
        y = x.new_empty((tokens, self.rows))
        if not tokens:
            return y  # the loops run at least once
        addresses = self.codes.data_ptr(), self.scale.data_ptr(), self.zero.data_ptr(), y.data_ptr()
        compiled(self.width, self.group, x.dtype == torch.bfloat16)(x.data_ptr(), *addresses, tokens, *self.counts)
        return y


@cache
def compiled(width: int, group: int, narrow: bool) -> Callable[..., None]:
    """The product for codes of 4 or 8 bits in groups of `group` columns (whole eights), `narrow` for bfloat16."""
    kinds = [ctypes.c_void_p] * 5 + [ctypes.c_int64] * 4
    return build(program(width, group, narrow), {"product": kinds})["product"]
