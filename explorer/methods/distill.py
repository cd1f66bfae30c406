"""Knowledge distillation on plain tensors (Hinton et al., arXiv 1503.02531): what is kept of a teacher's prediction,
and how far a student's logits are from it. Knows no models.

A prediction is kept as its k likeliest tokens and one outcome more for all the others together, so the divergence of
k + 1 outcomes is a lower bound of that of the whole vocabulary, and equal to it for k = vocabulary.
"""

import torch
from torch import Tensor

BLOCK = 256  # neighbours in the vocabulary of which only the largest is looked at first
ROWS = 256  # predictions worked on at a time: float32 copies of more would take hundreds of MB
LOWEST = -60.0  # stands for ln 0


def likeliest(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Logits (rows, vocabulary) → the ids of the k likeliest tokens (rows, k) and their log-probabilities, with that of
    all other tokens together in the last column, (rows, k + 1) float32."""
    logits = logits.float()
    value, top = _largest(logits, min(k, logits.shape[1]))
    log_p = value - logits.logsumexp(1, keepdim=True)
    rest = 1 - log_p.exp().sum(1, keepdim=True)
    return top, torch.cat([log_p, rest.clamp(min=0).log().clamp(min=LOWEST)], dim=1)


def _largest(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`topk` at a third of its time: the k largest lie in the k blocks with the largest maxima, or behind the last."""
    rows, words = logits.shape
    blocks = words // BLOCK
    if blocks <= k:
        return logits.topk(k, dim=1, sorted=False)
    grouped, rest = logits[:, : blocks * BLOCK].view(rows, blocks, BLOCK), logits[:, blocks * BLOCK :]
    chosen = grouped.amax(2).topk(k, dim=1, sorted=False).indices
    inside = grouped.gather(1, chosen[:, :, None].expand(rows, k, BLOCK)).view(rows, -1)
    value, at = torch.cat([inside, rest], dim=1).topk(k, dim=1, sorted=False)
    within = chosen.gather(1, (at // BLOCK).clamp(max=k - 1)) * BLOCK + at % BLOCK
    return value, torch.where(at < k * BLOCK, within, at - k * BLOCK + blocks * BLOCK)


def divergence(logits: Tensor, top: Tensor, log_p: Tensor) -> Tensor:
    """Mean KL in nats from the kept predictions (see `likeliest`) to logits (rows, vocabulary); differentiable.

    With one token of probability 1 it is the plain next-token loss.
    """
    found: Tensor = _Divergence.apply(logits, top, log_p)  # type: ignore[no-untyped-call]
    return found


def apart(hidden: Tensor, wanted: Tensor) -> Tensor:
    """Mean over tokens of ‖h − h'‖² / ‖h'‖² for hidden states (…, width) and those of the teacher; differentiable.
    Of all tokens alike, however large their states are (as SquareHead, Kurtic et al., arXiv 2310.06927)."""
    wanted = wanted.to(hidden.dtype)
    return ((hidden - wanted).square().sum(-1) / wanted.square().sum(-1).clamp(min=1e-12)).mean()


class _Divergence(torch.autograd.Function):
    """The slope is worked out on the way forward, where the student's probabilities are at hand: it is q − p for the
    kept tokens, and q (1 − p' / q') for the others, where p' and q' are what they hold together."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, logits: Tensor, top: Tensor, log_p: Tensor) -> Tensor:
        count, total = logits.shape[0], logits.new_zeros((), dtype=torch.float32)
        slope = torch.empty_like(logits) if logits.requires_grad else None
        for start in range(0, count, ROWS):
            part = slice(start, start + ROWS)
            at, log_kept = top[part].long(), log_p[part].float().clamp(min=LOWEST)
            z = logits[part].float()
            z = z - z.logsumexp(1, keepdim=True)
            log_q = z.gather(1, at)
            q = z.exp_()
            q_kept = q.gather(1, at)
            q_rest = q.scatter_(1, at, 0).sum(1, keepdim=True).clamp_(min=1e-26)
            p = log_kept.exp()
            total += (p * (log_kept - torch.cat([log_q, q_rest.log()], dim=1))).sum()
            if slope is not None:
                q.mul_(1 - p[:, -1:] / q_rest).scatter_(1, at, q_kept - p[:, :-1])
                slope[part] = q.div_(count)
        ctx.slope = slope  # type: ignore[attr-defined]
        return total / count

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return ctx.slope * gradient, None, None  # type: ignore[attr-defined]
