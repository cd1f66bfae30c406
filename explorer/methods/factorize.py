"""Two thin factors instead of one matrix: truncated SVD by the eigenvectors of the smaller Gram matrix
(W ≈ U_r U_rᵀ W, Eckart–Young). Knows nothing of layers or recipes."""

import torch
from torch import Tensor


def rank_for(rows: int, columns: int, keep: float) -> int:
    """The rank whose two factors hold at most `keep` of the matrix's parameters: r (n + m) ≤ keep · n m; at least 1.

    Rounded down to a multiple of 8 where that leaves anything, so that kernels meet aligned shapes.
    """
    rank = int(keep * rows * columns / (rows + columns) + 1e-9)
    return max(1, rank - rank % 8 if rank >= 8 else rank)


def highest_rank(rows: int, columns: int) -> int:
    """The rank at which two factors cost as much as the matrix: above it factorizing makes a layer larger."""
    return min(rows, columns, rank_for(rows, columns, 1.0))


def spectrum(weight: Tensor, rank: int | None = None) -> tuple[Tensor, Tensor]:
    """(n, m) weight → left (n, r) and right (r, m) in its dtype, strongest direction first; left @ right ≈ weight.

    Any lower rank is a slice of both. `rank` defaults to the full rank, which gives the weight back.
    """
    rows, columns = weight.shape
    w = weight.float()
    gram = w @ w.T if rows <= columns else w.T @ w
    basis = torch.linalg.eigh(gram).eigenvectors.flip(1)[:, :rank]  # ascending → strongest first
    left, right = (basis, basis.T @ w) if rows <= columns else (w @ basis, basis.T)
    return left.to(weight.dtype).contiguous(), right.to(weight.dtype).contiguous()
