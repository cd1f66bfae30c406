"""Scores to masks. Magnitude pruning compares within each output row (Sun et al., Wanda, arXiv 2306.11695, §3): every
row keeps the same number of weights. Knows nothing of layers or recipes."""

import torch
from torch import Tensor


def kept_columns(columns: int, sparsity: float) -> int:
    """Weights that a row of `columns` keeps; at least one."""
    return max(1, columns - round(columns * sparsity))


def magnitude_keys(weight: Tensor) -> Tensor:
    """(rows, columns) weights → integers that order like their sizes, ties by column; no two in a row are equal.

    The bits of a positive float order like the float, so the key is those bits above the column number.
    """
    size = weight.abs()
    narrow = size.dtype in (torch.bfloat16, torch.float16) and size.shape[1] < 2**16
    bits = size.view(torch.int16).int() if narrow else size.float().view(torch.int32).long()
    columns = torch.arange(size.shape[1], dtype=bits.dtype, device=size.device)
    return (bits << (16 if narrow else 32)) | columns


def ranks(keys: Tensor) -> Tensor:
    """(rows, columns) keys → each one's place within its row, 0 = smallest. Any mask is then a comparison."""
    order = keys.argsort(dim=1)
    columns = keys.shape[1]
    place = torch.int16 if columns <= 2**15 else torch.int32
    steps = torch.arange(columns, dtype=place, device=keys.device).expand_as(order)
    return torch.empty(order.shape, dtype=place, device=keys.device).scatter_(1, order, steps)


def mask_from_ranks(row_ranks: Tensor, sparsity: float) -> Tensor:
    """True where a weight stays: the `kept_columns` highest ranks of each row."""
    columns = row_ranks.shape[1]
    return row_ranks >= columns - kept_columns(columns, sparsity)


def mask_from_keys(keys: Tensor, sparsity: float) -> Tensor:
    """The same mask without ranks, by selecting each row's threshold: cheaper when it is needed once."""
    columns = keys.shape[1]
    return keys >= keys.kthvalue(columns - kept_columns(columns, sparsity) + 1, dim=1, keepdim=True).values
