"""Values to codes: round to nearest on an asymmetric grid per group (Jacob et al., arXiv 1712.05877, eq. 1):
w ≈ scale · (code − zero), zero an integer so that 0 stays exactly 0. Knows nothing of layers or recipes."""

import torch
from torch import Tensor

TINY = 2.0**-24  # the smallest positive float16, so that an all-zero group has a finite scale


def groups_of(columns: int, group: int) -> tuple[int, int]:
    """(number of groups in a row, weights in a group); `group` 0 or wider than the row means the whole row."""
    size = columns if group == 0 or group > columns else group
    return -(-columns // size), size


def round_to_nearest(weight: Tensor, bits: int, group: int) -> tuple[Tensor, Tensor, Tensor]:
    """(rows, columns) weights → codes (rows, columns) uint8, scale (rows, groups) float16, zero (rows, groups) uint8.

    The scale is rounded to bfloat16 first, which float16 holds exactly in the range of real weights: kernels that
    take bfloat16 scales then see the stored value.
    """
    rows, columns = weight.shape
    count, size = groups_of(columns, group)
    padded = torch.nn.functional.pad(weight, (0, count * size - columns)) if columns % size else weight
    grouped = padded.reshape(rows, count, size)
    low, high = grouped.aminmax(dim=-1)
    low, high = low.float().clamp(max=0), high.float().clamp(min=0)
    top = 2**bits - 1
    scale = ((high - low) / top).bfloat16().to(torch.float16).clamp(min=TINY)
    zero = (-low / scale.float()).round_().clamp_(0, top)
    # (rows, groups, 1) against (rows, groups, size)
    codes = (grouped.float() / scale.float()[..., None]).round_().add_(zero[..., None]).clamp_(0, top)
    return codes.to(torch.uint8).view(rows, -1)[:, :columns], scale, zero.to(torch.uint8)


def dequantize(codes: Tensor, scale: Tensor, zero: Tensor, group: int, dtype: torch.dtype) -> Tensor:
    """The weights that codes, scale and zero stand for, (rows, columns) in `dtype`."""
    rows, columns = codes.shape
    count, size = groups_of(columns, group)
    padded = torch.nn.functional.pad(codes, (0, count * size - columns)) if columns % size else codes
    grouped = padded.reshape(rows, count, size).float()
    values = grouped.sub_(zero.float()[..., None]).mul_(scale.float()[..., None])
    return values.to(dtype).view(rows, -1)[:, :columns]
