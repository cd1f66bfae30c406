"""A random rotation of a model's hidden states, so that no direction stands out and weights are of one size: what few
bits need (Ashkboos et al., QuaRot, arXiv 2404.00456, §4; Tseng et al., QuIP#, arXiv
2402.04396, §3). It is random signs, then a Hadamard matrix and an orthogonal one beside it, so nothing of it is stored.
"""

import math
from functools import cache

import torch
from torch import Tensor


@cache
def orthogonal(width: int) -> Tensor:
    """Q (width, width), the same for equal widths."""
    high = math.gcd(width, 2**30)  # the powers of two in it
    with torch.device("cpu"):  # whatever is the default just now
        signs = torch.randint(0, 2, (width, 1), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
        return signs * torch.kron(_hadamard(high), _cosines(width // high))


def _hadamard(size: int) -> Tensor:
    """Sylvester's orthonormal matrix; symmetric."""
    matrix = torch.ones(1, 1)
    while matrix.shape[0] < size:
        matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), matrix) / math.sqrt(2)
    return matrix


def _cosines(size: int) -> Tensor:
    """The orthonormal cosine transform, for sizes that no Hadamard matrix has."""
    step = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * (step + 0.5) * step[:, None]) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.float()
