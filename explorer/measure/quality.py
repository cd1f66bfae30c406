"""How far the compressed model's predictions are from the original's: paired, on identical tokens, in float32.

KL is from the original to the compressed model, in nats. Intervals resample whole passages, since tokens within one
are not independent (block bootstrap).
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explorer.layers.linear import CompressedEmbedding, CompressedLinear
from explorer.layers.storage import Dense
from explorer.records import Quality, Reading


@dataclass(frozen=True, kw_only=True)
class Passage:
    """One evaluation text as ids (1, tokens); the first token is given, all others are predicted."""

    kind: str
    ids: Tensor

    @property
    def predicted(self) -> int:
        return self.ids.shape[1] - 1


@dataclass(frozen=True, kw_only=True)
class Score:
    """Sums over the predicted tokens of one passage."""

    tokens: int
    nll: float
    nll_original: float
    kl: float
    same_top: int
    broken: int


def passages(tokenizer: Any, texts: dict[str, list[str]], longest: int = 256) -> list[Passage]:
    """Tokenize texts by kind, one kind after the other in turn, so that any first part is a fair mix.

    Each starts with the beginning-of-text token where the model has one; longer texts become several passages.
    """
    start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    columns = []
    for kind, group in texts.items():
        room = max(1, longest - len(start))
        windows = [
            ids[at : at + room] for text in group for ids in [_ids(tokenizer, text)] for at in range(0, len(ids), room)
        ]
        columns.append([Passage(kind=kind, ids=torch.tensor([start + window])) for window in windows])
    most = max(map(len, columns), default=0)
    turns = [column[i] for i in range(most) for column in columns if i < len(column)]
    return [passage for passage in turns if passage.predicted > 0]


@torch.inference_mode()
def logits_of(model: nn.Module, passage: Passage) -> Tensor:
    """Predictions of one passage in the model's dtype, (predicted, vocabulary)."""
    device = next(model.parameters()).device
    logits: Tensor = model(input_ids=passage.ids.to(device), use_cache=False).logits
    return logits[0, :-1]


@torch.inference_mode()
def score(passage: Passage, original: Tensor, compressed: Tensor) -> Score:
    """Compare two (predicted, vocabulary) logits of one passage. Positions that are not finite are counted apart."""
    targets = passage.ids[0, 1:].to(original.device)
    finite = torch.isfinite(compressed).all(dim=1)
    p, q = original.float().log_softmax(-1), compressed.float().log_softmax(-1)
    if not finite.all():
        p, q, targets = p[finite], q[finite], targets[finite]
    kl = (p.exp() * (p - q)).sum(dim=1).clamp(min=0)
    at = targets[:, None]
    return Score(
        tokens=len(targets),
        nll=-q.gather(1, at).double().sum().item(),
        nll_original=-p.gather(1, at).double().sum().item(),
        kl=kl.double().sum().item(),
        same_top=int((p.argmax(1) == q.argmax(1)).sum()),
        broken=int((~finite).sum()),
    )


def summarize(scores: Sequence[Score]) -> Quality:
    """Means over all tokens of the scores, each with its 95 % interval from 1,000 resamples of the passages."""
    tokens = sum(s.tokens for s in scores)
    weights = np.array([s.tokens for s in scores], dtype=float)
    chosen = np.random.default_rng(0).integers(len(scores), size=(1000, len(scores)))  # (resamples, passages)

    def reading(field: str, unit: str, exponential: bool = False) -> Reading:
        sums = np.array([getattr(s, field) for s in scores], dtype=float)
        values = [sums.sum() / tokens if tokens else math.nan]
        if tokens and len(scores) > 1:
            means = sums[chosen].sum(axis=1) / np.maximum(weights[chosen].sum(axis=1), 1)
            values += np.quantile(means, (0.025, 0.975)).tolist()
        value, *interval = [math.exp(min(x, 700)) if exponential else float(x) for x in values]
        low, high = interval or (None, None)
        return Reading(value=value, unit=unit, how="measured", low=low, high=high, n=tokens)

    return Quality(
        perplexity=reading("nll", "", exponential=True),
        perplexity_original=reading("nll_original", "", exponential=True),
        kl=reading("kl", "nats"),
        top1_agreement=reading("same_top", "share"),
        tokens=tokens,
        broken_positions=sum(s.broken for s in scores),
    )


class References:
    """The original's predictions in float32 on the first passages that hold `tokens` tokens."""

    def __init__(self, base: nn.Module, passages: Sequence[Passage], tokens: int) -> None:
        enough = next(
            (i for i in range(len(passages)) if sum(p.predicted for p in passages[:i]) >= tokens), len(passages)
        )
        self.passages = passages[:enough]
        exact = copy.deepcopy(base).float()
        self.logits = [logits_of(exact, passage) for passage in self.passages]

    def compare(self, unsettled: nn.Module) -> tuple[float, int]:
        """(mean KL, tokens) of the weights as they are stored, decoded to float32, so that the rounding of activations
        to the model's dtype (about .001 nats in bfloat16) does not hide small distances."""
        exact = decoded(unsettled).float()
        scores = [score(p, q, logits_of(exact, p)) for p, q in zip(self.passages, self.logits, strict=True)]
        tokens = sum(s.tokens for s in scores)
        return sum(s.kl for s in scores) / max(tokens, 1), tokens


@torch.no_grad()
def decoded(unsettled: nn.Module) -> nn.Module:
    """A copy of an unsettled model with plain float32 layers in place of compressed ones."""
    model = copy.deepcopy(unsettled)
    for name, module in list(model.named_modules()):
        if isinstance(module, CompressedLinear):
            weight = module.weight()
            plain = nn.Linear(weight.shape[1], weight.shape[0], bias=module.bias is not None, device="meta")
            plain.weight = nn.Parameter(weight, requires_grad=False)
            if module.bias is not None:
                plain.bias = nn.Parameter(module.bias.float(), requires_grad=False)
            model.set_submodule(name, plain)
        elif isinstance(module, CompressedEmbedding):
            module.stored = Dense(module.stored.dense().float())
    return model


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
