"""Scores to masks. Within each output row every row keeps the same number of weights (Sun et al., Wanda, arXiv
2306.11695, §3); within a layer or a model the smallest go wherever they are. Knows nothing of layers or recipes."""

import torch
from torch import Tensor


def pattern_of(pattern: str) -> tuple[int, int] | None:
    """(kept, of how many neighbours) of an n:m pattern; None where it is unstructured."""
    kept, found, size = pattern.partition(":")
    return (int(kept), int(size)) if found else None


def kept_columns(columns: int, sparsity: float) -> int:
    """Weights that a row of `columns` keeps; at least one."""
    return max(1, columns - round(columns * sparsity))


def kept_in_pattern(columns: int, pattern: tuple[int, int]) -> int:
    """Weights that a row keeps under n:m; a last group that is not whole keeps its share, rounded up."""
    kept, size = pattern
    return columns // size * kept - (-(columns % size) * kept // size)


def ria(weight: Tensor, importance: Tensor) -> Tensor:
    """Relative importance and activations (Zhang et al., ICLR 2024, §3.1): (|w| / Σ row + |w| / Σ column) · E[x²]^¼.

    (rows, columns) weight and (columns,) E[x²] → (rows, columns) float32 scores.
    """
    size = weight.abs().float()
    tiny = torch.finfo(torch.float32).tiny
    share = size / size.sum(1, keepdim=True).clamp(min=tiny) + size / size.sum(0, keepdim=True).clamp(min=tiny)
    return share * importance**0.25


def wanda(weight: Tensor, importance: Tensor) -> Tensor:
    """|w| · √E[x²] (Wanda, §3): (rows, columns) weight and (columns,) E[x²] → (rows, columns) float32 scores."""
    return weight.abs().float() * importance.sqrt()


# SparseGPT finds its masks by itself (`secondorder`); where only a score is asked for, it is Wanda's.
SCORES = {"wanda": wanda, "ria": ria, "sparsegpt": wanda}


def score(weight: Tensor, importance: Tensor | None, method: str) -> Tensor:
    """(rows, columns) scores ≥ 0 by a method's name; by magnitude also where no importance (columns,) is known."""
    if method == "magnitude" or importance is None:
        return weight.abs()
    return SCORES[method](weight, importance)


def keys(score: Tensor) -> Tensor:
    """(rows, columns) scores ≥ 0 → integers that order like them, ties by column; no two in a row are equal.

    The bits of a positive float order like the float, so the key is those bits above the column number.
    """
    narrow = score.dtype in (torch.bfloat16, torch.float16) and score.shape[1] < 2**16
    bits = score.view(torch.int16).int() if narrow else score.float().contiguous().view(torch.int32).long()
    columns = torch.arange(score.shape[1], dtype=bits.dtype, device=score.device)
    return (bits << (16 if narrow else 32)) | columns


def ranks(ordered: Tensor) -> Tensor:
    """(rows, columns) keys → each one's place within its row, 0 = smallest. Any mask is then a comparison."""
    order = ordered.argsort(dim=1)
    columns = ordered.shape[1]
    place = torch.int16 if columns <= 2**15 else torch.int32
    steps = torch.arange(columns, dtype=place, device=ordered.device).expand_as(order)
    return torch.empty(order.shape, dtype=place, device=ordered.device).scatter_(1, order, steps)


def mask_from_ranks(row_ranks: Tensor, kept: int) -> Tensor:
    """True where a weight stays: the `kept` highest ranks of each row."""
    return row_ranks >= row_ranks.shape[1] - kept


def mask_from_keys(ordered: Tensor, kept: int) -> Tensor:
    """The same mask without ranks, by selecting each row's threshold: cheaper when it is needed once."""
    return ordered >= ordered.kthvalue(ordered.shape[1] - kept + 1, dim=1, keepdim=True).values


def mask_of_layer(score: Tensor, kept: int) -> Tensor:
    """True for exactly `kept` weights of the whole (rows, columns) matrix: the largest scores, ties by place."""
    flat = score.flatten().float()
    threshold = flat.kthvalue(flat.numel() - kept + 1).values
    mask = flat > threshold
    level = (flat == threshold).nonzero().flatten()
    mask[level[len(level) - (kept - int(mask.sum())) :]] = True
    return mask.view(score.shape)


def mask_of_pattern(ordered: Tensor, pattern: tuple[int, int]) -> Tensor:
    """True for the n largest of every m neighbours of a row: (rows, columns) keys (see `keys`) → mask."""
    rows, columns = ordered.shape
    kept, size = pattern
    whole = columns // size * size
    groups = ordered[:, :whole].reshape(rows, -1, size)
    best = groups.topk(kept, dim=2).indices
    mask = torch.zeros(groups.shape, dtype=torch.bool, device=ordered.device).scatter_(2, best, True).view(rows, whole)
    if whole == columns:
        return mask
    rest = ordered[:, whole:]
    stay = kept_in_pattern(columns, pattern) - whole // size * kept
    last = torch.zeros_like(rest, dtype=torch.bool).scatter_(1, rest.topk(stay, dim=1).indices, True)
    return torch.cat([mask, last], dim=1)


def share_below(scores: list[Tensor], sparsity: float) -> list[int]:
    """One threshold for many matrices: how many weights each loses when `sparsity` of all go, smallest score first."""
    counts = [score.numel() for score in scores]
    wanted, low, high = round(sparsity * sum(counts)), 0.0, max(float(score.max()) for score in scores)
    for _ in range(30):
        middle = (low + high) / 2
        if sum(int((score < middle).sum()) for score in scores) > wanted:
            high = middle
        else:
            low = middle
    return [min(int((score < low).sum()), score.numel() - 1) for score in scores]
