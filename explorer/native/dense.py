"""The plain product of few tokens, bfloat16 or float16 (`c/dense.c`). torch's own reaches about half of what memory
allows for one token; this fetches the next rows while it multiplies."""

import ctypes
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from explorer.native import llvm

NAMES = {torch.bfloat16: "dense_bf16", torch.float16: "dense_f16"}
ROWS = 4  # of a block, as in c/dense.c
GRAIN = 2**15  # weights from which a second thread pays


def takes(x: Tensor, weight: Tensor) -> bool:
    """Whether x (…, columns) by weight (rows, columns) can be multiplied here."""
    return (
        x.dtype in NAMES
        and weight.dtype == x.dtype
        and weight.is_cpu
        and weight.is_contiguous()
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and llvm.available()
    )


def multiply(x: Tensor, weight: Tensor) -> Tensor:
    """x (…, columns) → (…, rows) in its dtype; sums in float32."""
    (rows, columns), x = weight.shape, x.contiguous()
    y = x.new_empty((*x.shape[:-1], rows))
    tokens, grain = y.numel() // rows if rows else 0, max(1, GRAIN // (ROWS * max(columns, 1)))
    if tokens:
        run, pool = _function(x.dtype)
        run(x.data_ptr(), weight.data_ptr(), y.data_ptr(), tokens, rows, columns, grain, pool)
    return y


@cache
def _function(dtype: torch.dtype) -> tuple[Callable[..., None], int | None]:
    kinds = [ctypes.c_void_p] * 3 + [ctypes.c_int64] * 4 + [ctypes.c_void_p]
    return llvm.load("dense", {NAMES[dtype]: kinds})[NAMES[dtype]], llvm.parallel_for()
