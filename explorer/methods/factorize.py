"""Two thin factors instead of one matrix: W ≈ U_r (U_rᵀ W) with the strongest eigenvectors of W H Wᵀ. H = E[x xᵀ] is
the optimum for the outputs (equal to SVD-LLM's truncation, Wang et al., arXiv 2403.07378, §3.2), H = diag(E|x|) is ASVD
with α = ½ (Yuan et al., arXiv 2312.05821, §3.2), H = I the plain SVD. Knows nothing of layers or recipes."""

import torch
from torch import Tensor

from explorer.methods import cholesky


def rank_for(rows: int, columns: int, keep: float) -> int:
    """The rank whose two factors hold at most `keep` of the matrix's parameters: r (n + m) ≤ keep · n m; at least 1.

    Rounded down to a multiple of 4 where that leaves anything, so that kernels meet aligned shapes.
    """
    rank = int(keep * rows * columns / (rows + columns) + 1e-9)
    return max(1, rank - rank % 4 if rank >= 4 else rank)


def highest_rank(rows: int, columns: int) -> int:
    """The rank at which two factors cost as much as the matrix: above it factorizing makes a layer larger."""
    return min(rows, columns, rank_for(rows, columns, 1.0))


def spectrum(
    weight: Tensor, rank: int | None = None, inputs: Tensor | None = None, outputs: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(n, m) weight → left (n, r), right (r, m) in its dtype, strongest direction first, and all eigenvalues float32.

    `inputs` is H (m, m), its diagonal (m,), or None for I. `outputs` says which outputs matter: G (n, n) = E[g gᵀ] of
    the loss's gradient, or fewer than n rows g (t, n) with G = gᵀ g (a Kronecker-factored Fisher matrix, Martens &
    Grosse, arXiv 1503.05671, §3). With G = R Rᵀ the best factors of Rᵀ W are found and turned back. Any lower rank is a
    slice of both factors; the eigenvalues cut off sum up to the squared error in the norm of H and G, and those kept
    are the power of each factor's coordinate.
    """
    rows, columns = weight.shape
    of_width = _of_tall if rows > columns else _of_wide
    left, right, values = of_width(weight.float(), rank, inputs, outputs)
    return left.to(weight.dtype).contiguous(), right.to(weight.dtype).contiguous(), values.flip(0).clamp(min=0)


def _of_wide(
    w: Tensor, rank: int | None, inputs: Tensor | None, outputs: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvectors of Rᵀ W H Wᵀ R (n, n)."""
    turn = None if outputs is None else _output_root(outputs)
    w = w if turn is None else turn.T @ w
    weighted = w if inputs is None else w * inputs if inputs.dim() == 1 else w @ inputs
    values, basis = torch.linalg.eigh(weighted @ w.T)  # ascending
    left = basis.flip(1)[:, :rank]
    right = left.T @ w
    return left if turn is None else torch.linalg.solve_triangular(turn.T, left, upper=True), right, values


def _of_tall(
    w: Tensor, rank: int | None, inputs: Tensor | None, outputs: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """By way of Lᵀ M L (m, m) with H = L Lᵀ and M = Wᵀ G W: it has the same eigenvalues, and of its eigenvectors V
    W L V is the left factor up to lengths, so that no root of G is taken."""
    root = _root(inputs, w.shape[1])
    inner = w.T @ (w if outputs is None else _felt(outputs, w))
    half = inner if root is None else inner * root if root.dim() == 1 else inner @ root
    values, turned = torch.linalg.eigh(half if root is None else _times(root, half))
    turned = turned.flip(1)[:, :rank]
    ahead = turned if root is None else root[:, None] * turned if root.dim() == 1 else root @ turned  # (m, r)
    right = ahead.T @ inner
    common = right @ ahead  # what the columns W L V have in common under G: λ on the diagonal, next to nothing off it
    lengths = common.diagonal().clamp(min=1e-30).sqrt()
    lower, failed = torch.linalg.cholesky_ex(common / lengths / lengths[:, None])
    if failed or lower.diagonal().min() < 0.5:  # λ down to nothing: only a basis by QR is one
        turn = None if outputs is None else _output_root(outputs)
        basis = torch.linalg.qr(w @ ahead if turn is None else turn.T @ (w @ ahead)).Q
        right = basis.T @ (w if turn is None else turn.T @ w)
        return basis if turn is None else torch.linalg.solve_triangular(turn.T, basis, upper=True), right, values
    left = torch.linalg.solve_triangular(lower.T, (w @ ahead) / lengths, upper=True, left=False)
    return left, torch.linalg.solve_triangular(lower, right / lengths[:, None], upper=False), values


def _times(root: Tensor, half: Tensor) -> Tensor:
    """Lᵀ half, for a diagonal L too."""
    return root[:, None] * half if root.dim() == 1 else root.T @ half


def allocate(spectra: list[Tensor], shapes: list[tuple[int, int]], keep: float) -> list[int]:
    """Ranks of many matrices under one budget of `keep` of all their parameters: first the eigenvalues that save most
    for each parameter. 0 where the matrix stays whole, since its rank passed break-even.
    """
    budget = keep * sum(n * m for n, m in shapes)
    fits = (size for size in (8, 4, 2) if sum(min(size, n, m) * (n + m) for n, m in shapes) <= budget)
    step = next(fits, 1)  # ranks are multiples of it, and at least it
    gains = torch.cat([values / (n + m) for values, (n, m) in zip(spectra, shapes, strict=True)])
    owner = torch.cat([torch.full((len(values),), i) for i, values in enumerate(spectra)])
    owner = owner[gains.argsort(descending=True, stable=True)]

    def ranks(taken: int) -> list[int]:
        counts = torch.bincount(owner[:taken], minlength=len(shapes)).tolist()
        rounded = [max(min(step, n, m), count - count % step) for count, (n, m) in zip(counts, shapes, strict=True)]
        return [0 if r >= highest_rank(*shape) else r for r, shape in zip(rounded, shapes, strict=True)]

    def cost(taken: int) -> int:
        return sum(n * m if r == 0 else r * (n + m) for r, (n, m) in zip(ranks(taken), shapes, strict=True))

    low, high = 0, len(owner)  # the most directions whose cost, as rounded, is within the budget
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle) <= budget else (low, middle - 1)
    return ranks(low)


def _felt(outputs: Tensor, w: Tensor) -> Tensor:
    """G W (n, m), see `_output_root`."""
    if len(outputs) == len(w):
        return torch.addmm(w, outputs, w, beta=float(outputs.diagonal().mean().clamp(min=1e-30)))
    return torch.addmm(w, outputs.T, outputs @ w, beta=float((outputs.square().sum() / len(w)).clamp(min=1e-30)))


def _output_root(outputs: Tensor) -> Tensor:
    """Lower R with R Rᵀ = G and its mean diagonal added: what few gradients have not shown counts too."""
    total = outputs if len(outputs) == outputs.shape[1] else outputs.T @ outputs
    mean = total.diagonal().mean().clamp(min=1e-30)
    raised = total / mean
    raised.diagonal().add_(1)
    return cholesky.root(raised, 1e-3).mul_(mean.sqrt())


def _root(inputs: Tensor | None, columns: int) -> Tensor | None:
    """L with H = L Lᵀ; a little is added to the diagonal where H is not quite positive."""
    if inputs is None:
        return None
    if inputs.dim() == 1:
        return inputs.sqrt()
    little = 1e-6 * inputs.diagonal().mean().clamp(min=1e-12)
    # rounded to bfloat16, H of few tokens has eigenvalues well below zero
    return cholesky.root(inputs + little * torch.eye(columns, device=inputs.device), 10 * little)
