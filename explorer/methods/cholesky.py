"""The Cholesky factor of what is positive only up to rounding: of few tokens, or of inputs that go together."""

import torch
from torch import Tensor


def root(gram: Tensor, more: Tensor | float) -> Tensor:
    """Lower triangular L with L Lᵀ = gram (…, m, m), and `more` on the diagonal, as often as it takes and ten times as
    much each time, where that is not positive enough. ValueError where gram is not of numbers."""
    if not gram.isfinite().all():
        raise ValueError("The calibration text gave numbers that are none; this method cannot be used on this model.")
    found: Tensor
    found, failed = torch.linalg.cholesky_ex(gram)
    if not failed.any():
        return found
    gram, more = gram.clone(), torch.as_tensor(more, device=gram.device).expand(gram.shape[:-1]).clone()
    while failed.any():
        gram.diagonal(dim1=-2, dim2=-1).add_(torch.where(failed.bool()[..., None], more, 0))
        found, failed = torch.linalg.cholesky_ex(gram)
        more *= 10
    return found
