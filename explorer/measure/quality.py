"""How far the compressed model's predictions are from the original's: paired, on identical tokens, in float32.

The statistics are those of llama.cpp's perplexity tool (tools/perplexity/README.md). KL is from the original to the
compressed model, in nats. A position where either model's logits are not finite predicts nothing: it costs ∞ nats, is
no agreement, and makes every mean that it is part of not a number.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explorer.layers.linear import CompressedEmbedding, CompressedLinear, device_of
from explorer.layers.storage import Dense
from explorer.layers.targets import targets
from explorer.measure.intervals import Blocks
from explorer.model.tokens import front
from explorer.values.quality import Contributions, Quality, Slice
from explorer.values.reading import Reading

T = TypeVar("T")
Floats = NDArray[np.float32]
Marks = NDArray[np.bool_]
ROWS = 16  # positions compared at once: float32 logits of more would not stay in a processor's cache
ROUNDING = 2.0**-8  # bfloat16 keeps 8 bits: rounding moves a number by up to this share of it


@dataclass(frozen=True, kw_only=True)
class Passage:
    """One evaluation text as ids (1, tokens); the first token is given, all others are predicted."""

    kind: str
    ids: Tensor

    @property
    def predicted(self) -> int:
        return self.ids.shape[1] - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """What is kept of every predicted token of one passage, each (predicted,): nats, and whose top token was right."""

    kind: str
    kl: Floats
    nll: Floats
    nll_original: Floats
    same_top: Marks
    right: Marks
    right_original: Marks
    broken: int = 0

    @property
    def tokens(self) -> int:
        """Positions that were predicted, without the broken ones."""
        return len(self.kl) - self.broken


def passages(tokenizer: Any, texts: dict[str, list[str]], longest: int = 256) -> list[Passage]:
    """Tokenize texts by kind, one kind after the other in turn and each kind's in an order that is spread over it, so
    that any first part is a fair mix: neighbours are of one subject, and an interval from them alone is too narrow.

    Each starts with the beginning-of-text token where the model has one; longer texts become several passages.
    """
    start = front(tokenizer, always=True)
    columns = []
    for kind, group in texts.items():
        room = max(1, longest - len(start))
        windows = [
            ids[at : at + room] for text in group for ids in [_ids(tokenizer, text)] for at in range(0, len(ids), room)
        ]
        columns.append([Passage(kind=kind, ids=torch.tensor([start + window])) for window in windows])
    return [passage for passage in in_turn(columns) if passage.predicted > 0]


def in_turn(groups: Sequence[Sequence[T]]) -> list[T]:
    """One of each group after the other, each group in an order that is spread over it."""
    columns = [[group[i] for i in _spread(len(group))] for group in groups]
    most = max(map(len, columns), default=0)
    return [column[i] for i in range(most) for column in columns if i < len(column)]


def _spread(count: int) -> list[int]:
    """0 … count − 1 so that any first part lies evenly over the whole: in the order of their bits reversed."""
    bits = max(1, (count - 1).bit_length())
    return sorted(range(count), key=lambda i: int(f"{i:0{bits}b}"[::-1], 2))


@torch.inference_mode()
def logits_of(model: nn.Module, passage: Passage) -> Tensor:
    """Predictions of one passage in the model's dtype, (predicted, vocabulary)."""
    device = device_of(model)
    logits: Tensor = model(input_ids=passage.ids.to(device), use_cache=False).logits
    return logits[0, :-1]


@torch.inference_mode()
def score(passage: Passage, original: Tensor, compressed: Tensor) -> Score:
    """Compare two (predicted, vocabulary) logits of one passage."""
    all_rows = (original, compressed, passage.ids[0, 1:].to(original.device))
    parts = [_compared(*rows) for rows in zip(*(torch.split(t, ROWS) for t in all_rows), strict=True)]
    columns = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    kl, nll, nll_original, same_top, right, right_original, both = columns
    return Score(
        kind=passage.kind,
        kl=kl,
        nll=nll,
        nll_original=nll_original,
        same_top=same_top,
        right=right,
        right_original=right_original,
        broken=int((~both).sum()),
    )


def _compared(original: Tensor, compressed: Tensor, words: Tensor) -> tuple[Tensor, ...]:
    """A few rows of logits and the words that came: the columns of a Score, and where both are numbers."""
    p, q = original.float().log_softmax(-1), compressed.float().log_softmax(-1)
    sound = torch.isfinite(original).all(dim=1)
    both = sound & torch.isfinite(compressed).all(dim=1)
    top, top_original, at = q.argmax(1), p.argmax(1), words[:, None]
    return (
        (p.exp() * (p - q)).sum(dim=1).clamp(min=0).masked_fill(~both, torch.inf),
        -q.gather(1, at)[:, 0].masked_fill(~both, -torch.inf),
        -p.gather(1, at)[:, 0].masked_fill(~sound, -torch.inf),
        (top == top_original) & both,
        (top == words) & both,
        (top_original == words) & sound,
        both,
    )


def summarize(scores: Sequence[Score], original: Reading | None = None, floor: Reading | None = None) -> Quality:
    """The statistics over all tokens of the scores; 95 % intervals take passages as what was drawn.

    `original`: mean nats per token of the original on a longer text (`mean_nll`); both perplexities are then those of
    that text, by control variate: ln PPL(Q) = original + ln ratio. `floor`: see `noise_floor`.
    """
    blocks = Blocks([len(s.kl) for s in scores])
    kl, nll, plain = (_joined(scores, name) for name in ("kl", "nll", "nll_original"))
    ratio = blocks.mean(nll - plain, "nats") if np.isfinite(nll).all() else blocks.mean(nll, "nats")
    delta = np.exp(-nll.astype(float)) - np.exp(-plain.astype(float))
    square = blocks.mean(delta**2, "", positive=True)
    if original is None or original.n == blocks.tokens:  # the same passages, from the first on
        long, now = blocks.mean(plain, "nats"), blocks.mean(nll, "nats")
    else:
        ends = [None if end is None else original.value + end for end in (ratio.low, ratio.high)]
        long, now = (
            original,
            replace(ratio, value=original.value + ratio.value, low=ends[0], high=ends[1], how="estimated"),
        )
    return Quality(
        perplexity=_through(math.exp, now, ""),
        perplexity_original=_through(math.exp, long, ""),
        ln_ppl_ratio=ratio,
        ppl_ratio=_through(math.exp, ratio, "×"),
        ppl_correlation=Reading(value=_correlation(nll, plain), unit="", how="measured", n=blocks.tokens),
        kl=blocks.mean(kl, "nats", positive=True),
        kl_median=blocks.quantile(kl, 0.5, "nats"),
        kl_90=blocks.quantile(kl, 0.9, "nats"),
        kl_99=blocks.quantile(kl, 0.99, "nats"),
        kl_99_9=blocks.quantile(kl, 0.999, "nats"),
        kl_max=replace(blocks.quantile(kl, 1.0, "nats"), low=None, high=None),
        top1_agreement=blocks.share(_joined(scores, "same_top"), certain=not kl.any()),
        delta_p_mean=blocks.mean(delta, "share"),
        delta_p_rms=_through(math.sqrt, square, "share"),
        tokens=sum(s.tokens for s in scores),
        broken_positions=sum(s.broken for s in scores),
        noise_floor=floor,
        by_kind=by_kind(scores),
    )


def by_kind(scores: Sequence[Score]) -> tuple[Slice, ...]:
    """What breaks first: the kinds of text, the one with the largest KL first."""
    found = []
    for kind in dict.fromkeys(s.kind for s in scores):
        some = [s for s in scores if s.kind == kind]
        blocks, kl = Blocks([len(s.kl) for s in some]), _joined(some, "kl")
        right, right_original = _joined(some, "right"), _joined(some, "right_original")
        same = not kl.any()
        found.append(
            Slice(
                kind=kind,
                kl=blocks.mean(kl, "nats", positive=True),
                top1_agreement=blocks.share(_joined(some, "same_top"), certain=same),
                lost=blocks.share(right_original & ~right, certain=same),
                gained=blocks.share(right & ~right_original, certain=same),
            )
        )
    return tuple(sorted(found, key=lambda part: -part.kl.value if part.kl.value == part.kl.value else -math.inf))


def mean_kl(scores: Sequence[Score]) -> float:
    """Nats per token; not a number where a position is broken."""
    return Blocks([len(s.kl) for s in scores]).mean(_joined(scores, "kl"), "nats").value


def contributions(alone: Mapping[str, Sequence[Score]], together: Sequence[Score]) -> Contributions:
    """Each technique by itself and all together, on the passages that all were judged on; intervals are paired."""
    common = min(map(len, [*alone.values(), together]))
    blocks = Blocks([len(s.kl) for s in together[:common]])
    parts = {name: _joined(scores[:common], "kl") for name, scores in alone.items()}
    whole = _joined(together[:common], "kl")
    rest = whole.astype(float) - sum(part.astype(float) for part in parts.values())
    return Contributions(
        alone={name: blocks.mean(part, "nats", positive=True) for name, part in parts.items()},
        together=blocks.mean(whole, "nats", positive=True),
        interaction=blocks.mean(rest, "nats"),
    )


@torch.inference_mode()
def nll_of(passage: Passage, logits: Tensor) -> Floats:
    """Nats of each predicted token, (predicted,) float32, from (predicted, vocabulary) logits."""
    at = passage.ids[0, 1:, None].to(logits.device)
    nll: Floats = -logits.float().log_softmax(-1).gather(1, at)[:, 0].cpu().numpy()
    return nll


def mean_nll(nlls: Sequence[Floats]) -> Reading:
    """Mean nats per token over passages, each from `nll_of`."""
    return Blocks([len(nll) for nll in nlls]).mean(np.concatenate(nlls), "nats")


def noise_floor(model: nn.Module, passages: Sequence[Passage], tokens: int, seed: int = 0) -> Iterator[Reading]:
    """KL between the model and itself with bfloat16's rounding drawn anew, on the first passages that hold `tokens`
    tokens, refined passage by passage.

    Every output of every linear layer, the head's too, is moved by up to `ROUNDING` of itself, evenly drawn: a KL no
    larger could come from another kernel or batch alone. The model itself is not touched.
    """
    noise = torch.Generator().manual_seed(seed)
    noisy = copy.deepcopy(model, {id(t): t for t in chain(model.parameters(), model.buffers())})
    for target in targets(model):
        if target.kind != "embedding":
            noisy.get_submodule(target.name).register_forward_hook(_rounded_anew(noise))
    scores: list[Score] = []
    for passage in passages:
        scores.append(score(passage, logits_of(model, passage), logits_of(noisy, passage)))
        found = Blocks([len(s.kl) for s in scores]).mean(_joined(scores, "kl"), "nats", "simulated", positive=True)
        yield found
        if found.n is not None and found.n >= tokens:
            return


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
        scores = self._scores(unsettled)
        return mean_kl(scores), sum(s.tokens for s in scores)

    def kl(self, unsettled: nn.Module) -> Reading:
        """The same mean KL with its 95 % interval."""
        scores = self._scores(unsettled)
        return Blocks([len(s.kl) for s in scores]).mean(_joined(scores, "kl"), "nats", positive=True)

    def _scores(self, unsettled: nn.Module) -> list[Score]:
        exact = decoded(unsettled).float()
        return [score(p, q, logits_of(exact, p)) for p, q in zip(self.passages, self.logits, strict=True)]


@torch.no_grad()
def decoded(unsettled: nn.Module) -> nn.Module:
    """A copy of an unsettled model with plain float32 layers in place of compressed ones."""
    model = copy.deepcopy(unsettled)
    for name, module in list(model.named_modules()):
        if isinstance(module, CompressedLinear):
            weight = module.decoded()
            plain = nn.Linear(weight.shape[1], weight.shape[0], bias=module.bias is not None, device="meta")
            plain.weight = nn.Parameter(weight, requires_grad=False)
            if module.bias is not None:
                plain.bias = nn.Parameter(module.bias.float(), requires_grad=False)
            model.set_submodule(name, plain)
        elif isinstance(module, CompressedEmbedding):
            module.stored = Dense(module.stored.dense().float())
    return model


def _rounded_anew(noise: torch.Generator) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        draws = torch.empty(output.shape).uniform_(-ROUNDING, ROUNDING, generator=noise).to(output.device)
        return (output.float() * (1 + draws)).to(output.dtype)

    return hook


def _joined(scores: Sequence[Score], name: str) -> Any:
    parts = [getattr(s, name) for s in scores]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _through(function: Callable[[float], float], reading: Reading, unit: str) -> Reading:
    """A reading and its ends through a rising function."""

    def at(value: float | None) -> float | None:
        return value if value is None or math.isnan(value) else function(max(min(value, 700.0), -700.0))

    value = at(reading.value)
    assert value is not None
    return replace(reading, value=value, unit=unit, low=at(reading.low), high=at(reading.high), se=None)


def _correlation(one: Floats, other: Floats) -> float:
    """Pearson's, token by token, as llama.cpp's Cor(ln(PPL(Q)), ln(PPL(base)))."""
    if np.array_equal(one, other) and np.isfinite(one).all():
        return 1.0
    if len(one) < 2 or not (np.isfinite(one).all() and np.isfinite(other).all()) or not one.std() * other.std():
        return math.nan
    return float(np.corrcoef(one.astype(float), other.astype(float))[0, 1])


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
