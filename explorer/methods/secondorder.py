"""Column by column, each error handed on to the columns that are still free: the loop that GPTQ (Frantar et al., arXiv
2210.17323, §3) and SparseGPT (Frantar & Alistarh, arXiv 2301.00774, §3) share. Matrices of one shape go through it
together, since the loop's cost is its number of steps. Knows nothing of layers or recipes.

Inside, weights lie as (batch, columns, rows), so that a step works on contiguous memory.
"""

from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor

from explorer.methods import cholesky
from explorer.methods.prune import kept_in_pattern

BLOCK, PLACES = 32, 4  # columns whose errors are handed on at once; times that zeros are chosen anew
DAMPING = 0.02  # share of the mean diagonal added to H; GPTQ takes 0.01, SparseGPT does better with more
FIT_DAMPING, FIT_STEPS = 0.1, 4  # the same for `fit`, and its steps: more gain nothing on text not calibrated on


def inverse_factor(gram: Tensor) -> Tensor:
    """(batch, m, m) E[x xᵀ] → upper Cholesky factor U of its damped inverse, H⁻¹ = Uᵀ U, float32.

    An input that never fires counts as having the mean power, so that its weights are merely rounded. Where H is not
    positive enough to be factorized, more is added to its diagonal.
    """
    gram = gram.float().clone()
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    mean = diagonal.mean(-1, keepdim=True).clamp(min=1e-12)
    diagonal += torch.where(diagonal <= 0, mean, DAMPING * mean)
    inverse = torch.cholesky_inverse(cholesky.root(gram, 0.1 * mean))
    upper: Tensor = cholesky.root(inverse, 1e-6 * inverse.diagonal(dim1=-2, dim2=-1)).mT.contiguous()
    return upper


def steadied(gram: Tensor, tokens: int) -> Tensor:
    """E[x xᵀ] (m, m) of so few tokens that it knows less than m directions (an expert's), with more on its diagonal: as
    many times `DAMPING` as tokens are missing."""
    missing = len(gram) / max(tokens, 1)
    if missing <= 1:
        return gram
    return gram + DAMPING * missing * gram.diagonal().mean() * torch.eye(len(gram), device=gram.device)


def prune(
    weights: Tensor, factor: Tensor, kept: int, pattern: tuple[int, int] | None = None, flat: bool = False
) -> Generator[float, None, tuple[Tensor, Tensor]]:
    """SparseGPT on (batch, n, m) weights with (batch, m, m) `inverse_factor`; yields the share done, returns the mended
    weights and the mask, (batch, n, m); mended weights are zero where the mask is False.

    Each row, or with `flat` each matrix, keeps `kept` weights; those with the least w² / U_jj² go. Unlike in the paper,
    no stretch of columns has to lose its share: at `PLACES` places zeros are chosen anew among all that is still free.
    """
    columns = weights.shape[2]
    mask = torch.ones(weights.shape[0], columns, weights.shape[1], dtype=torch.bool, device=weights.device)
    power = factor.diagonal(dim1=-2, dim2=-1)[:, :, None] ** 2  # (batch, m, 1)

    def stretch(current: Tensor, start: int) -> None:
        if pattern:
            return
        for one, scale, stays in zip(current, power[:, start:], mask, strict=True):  # each (m or free, n)
            score, before = (one**2 / scale).T, stays[:start].sum(0)
            if flat:
                score, before = score.reshape(1, -1), before.sum()[None]
            order = score.argsort(1)
            lost = torch.arange(order.shape[1], device=order.device) < (order.shape[1] - kept + before)[:, None]
            chosen = torch.empty_like(lost).scatter_(1, order, ~lost)
            stays[start:] = chosen.view(-1, columns - start).T

    def group(current: Tensor, at: int) -> None:
        if pattern and at % pattern[1] == 0:
            size = min(pattern[1], columns - at)
            stay = kept_in_pattern(at + size, pattern) - kept_in_pattern(at, pattern)
            score = current[:, :size] ** 2 / power[:, at : at + size]
            mask[:, at : at + size].scatter_(1, score.topk(size - stay, dim=1, largest=False).indices, False)

    def settle(column: Tensor, at: int) -> Tensor:
        return column * mask[:, at]

    size = max(BLOCK, -(-columns // (PLACES * BLOCK)) * BLOCK)
    mended = yield from _run(weights, factor, settle, stretch, group, size)
    return mended.transpose(1, 2).contiguous(), mask.transpose(1, 2).contiguous()


def fit(weights: Tensor, start: Tensor, mask: Tensor, grams: Sequence[Tensor]) -> Generator[float, None, Tensor]:
    """The weights that stay under a mask (batch, n, m), moved from `start` to where they give nearly what `weights`
    gave for inputs with these H, each (m, m); zero where the mask is False. Yields the share done.

    Least squares of each row by conjugate gradients (Hestenes and Stiefel, 1952, §10), preconditioned by the diagonal,
    ended early. The loop meets each column once; this meets all of them at a time, again and again.
    """
    fitted = start * mask
    for at, (weight, gram) in enumerate(zip(weights, grams, strict=True)):
        damped, kept, now = gram.to(weight.dtype, copy=True), mask[at], fitted[at]
        damped.diagonal().add_(FIT_DAMPING * gram.diagonal().mean().clamp(min=1e-12))
        power = damped.diagonal()
        left = ((weight - now) @ damped) * kept
        way = left / power
        gain = (left * way).sum(1, keepdim=True)
        for _ in range(FIT_STEPS):
            felt = (way @ damped) * kept
            length = gain / (way * felt).sum(1, keepdim=True).clamp(min=1e-30)
            now += length * way
            left -= length * felt
            before, gain = gain, (left * left / power).sum(1, keepdim=True)
            way = left / power + gain / before.clamp(min=1e-30) * way
        yield (at + 1) / len(weights)
    return fitted


def round_off(
    weights: Tensor, factor: Tensor, step: Tensor, origin: Tensor, bits: int, mask: Tensor | None = None
) -> Generator[float, None, Tensor]:
    """GPTQ on (batch, n, m) weights; yields the share done, returns codes (batch, n, m) uint8.

    `step` and `origin` are the scale and zero of every weight's grid, (batch, m, n) or (batch, 1, n) for all columns
    alike. Where `mask` (batch, n, m) is False the weight is zero and stays so.
    """
    columns, top = weights.shape[2], 2**bits - 1
    codes = torch.zeros(weights.shape[0], columns, weights.shape[1], dtype=torch.uint8, device=weights.device)
    kept = None if mask is None else mask.transpose(1, 2).contiguous()
    step, origin = (part.float().expand(codes.shape) for part in (step, origin))

    def settle(column: Tensor, at: int) -> Tensor:
        code = (column / step[:, at]).round_().add_(origin[:, at]).clamp_(0, top)
        codes[:, at] = code.to(torch.uint8)
        value = code.sub_(origin[:, at]).mul_(step[:, at])
        return value if kept is None else value * kept[:, at]

    yield from _run(weights, factor, settle, lambda _, __: None, lambda _, __: None, columns)
    return codes.transpose(1, 2).contiguous()


def round_between(
    weights: Tensor, factor: Tensor, step: Tensor, least: Tensor, top: int
) -> Generator[float, None, Tensor]:
    """GPTQ as in `round_off` on grids whose zero is no code: step · code − least, both (batch, m, n); a step of 0 has
    one point, code 0."""
    columns = weights.shape[2]
    codes = torch.zeros(weights.shape[0], columns, weights.shape[1], dtype=torch.uint8, device=weights.device)

    def settle(column: Tensor, at: int) -> Tensor:
        width = torch.where(step[:, at] == 0, torch.inf, step[:, at])
        code = (column + least[:, at]).div_(width).round_().clamp_(0, top)
        codes[:, at] = code.to(torch.uint8)
        return code.mul_(step[:, at]).sub_(least[:, at])

    yield from _run(weights, factor, settle, lambda _, __: None, lambda _, __: None, columns)
    return codes.transpose(1, 2).contiguous()


def _run(
    weights: Tensor,
    factor: Tensor,
    settle: Callable[[Tensor, int], Tensor],
    stretch: Callable[[Tensor, int], None],
    group: Callable[[Tensor, int], None],
    size: int,
) -> Generator[float, None, Tensor]:
    """`settle` says what a column becomes; `stretch` sees what is free every `size` columns, `group` what of its block
    is, every column, before that."""
    mended = weights.float().transpose(1, 2).contiguous()  # (batch, m, n)
    columns = mended.shape[1]
    edges = sorted({*range(0, columns, size), *range(0, columns, BLOCK), columns})
    for start, end in zip(edges, edges[1:], strict=False):
        if start % size == 0:
            stretch(mended[:, start:], start)
        block, upper = mended[:, start:end], factor[:, start:end, start:end]
        errors = torch.empty_like(block)
        for i in range(end - start):
            group(block[:, i:], start + i)
            column = block[:, i]
            fixed = settle(column, start + i)
            torch.div(column - fixed, upper[:, i, i, None], out=errors[:, i])
            column.copy_(fixed)
            if i + 1 < end - start:  # (batch, left, 1) × (batch, 1, n)
                block[:, i + 1 :].baddbmm_(upper[:, i, i + 1 :, None], errors[:, i, None], alpha=-1)
        if end < columns:
            mended[:, end:].baddbmm_(factor[:, start:end, end:].transpose(1, 2), errors, alpha=-1)
        yield end / columns
    return mended
