"""Values to codes: round to nearest on an asymmetric grid per group (Jacob et al., arXiv 1712.05877, eq. 1):
w ≈ scale · (code − zero), zero an integer so that 0 stays exactly 0. Knows nothing of layers or recipes."""

import torch
from torch import Tensor

TINY, LARGEST = 2.0**-24, 65504.0  # of float16: an all-zero group keeps a finite scale


def groups_of(columns: int, group: int) -> tuple[int, int]:
    """(number of groups in a row, weights in a group); `group` 0 or wider than the row means the whole row."""
    size = columns if group == 0 or group > columns else group
    return -(-columns // size), size


def round_to_nearest(weight: Tensor, bits: int, group: int) -> tuple[Tensor, Tensor, Tensor]:
    """(rows, columns) weights → codes (rows, columns) uint8, scale (rows, groups) float16, zero (rows, groups) uint8.

    The scale is rounded up to bfloat16, which float16 holds exactly in the range of real weights: kernels that take
    bfloat16 scales then see the stored value, and the grid still reaches both ends of the group.
    """
    rows, columns = weight.shape
    count, size = groups_of(columns, group)
    padded = torch.nn.functional.pad(weight, (0, count * size - columns)) if columns % size else weight
    grouped = padded.reshape(rows, count, size)
    values = grouped.float() if grouped.dtype != torch.float32 else grouped.clone()
    low, high = values.amin(-1).clamp_(max=0), values.amax(-1).clamp_(min=0)  # twice as fast as aminmax
    top = 2**bits - 1
    scale = _up_to_bfloat16((high - low) / top).clamp_(TINY, LARGEST).to(torch.float16)
    step = scale.float()
    zero = (-low / step).round_().clamp_(0, top)
    # (rows, groups, size) against (rows, groups, 1)
    codes = values.div_(step[..., None]).round_().add_(zero[..., None]).clamp_(0, top)
    return codes.to(torch.uint8).view(rows, -1)[:, :columns], scale, zero.to(torch.uint8)


def dequantize(codes: Tensor, scale: Tensor, zero: Tensor, group: int, dtype: torch.dtype) -> Tensor:
    """The weights that codes, scale and zero stand for, (rows, columns) in `dtype`."""
    rows, columns = codes.shape
    count, size = groups_of(columns, group)
    padded = torch.nn.functional.pad(codes, (0, count * size - columns)) if columns % size else codes
    grouped = padded.reshape(rows, count, size).float()
    values = grouped.sub_(zero.float()[..., None]).mul_(scale.float()[..., None])
    return values.to(dtype).view(rows, -1)[:, :columns]


def _up_to_bfloat16(positive: Tensor) -> Tensor:
    """The next bfloat16 at or above each positive float32: its upper 16 bits, rounded up."""
    return ((positive.view(torch.int32) + 0xFFFF) & ~0xFFFF).view(torch.float32)
