"""Judging many compressed models against one original: what is known of the original is kept, and every comparison goes
on where it stopped."""

from collections.abc import Hashable, Iterator, Sequence

from torch import Tensor, nn

from explorer.measure import quality
from explorer.measure.quality import Floats, Passage, Score
from explorer.values.quality import Quality
from explorer.values.reading import Reading

REFERENCE_TOKENS_KEPT = 1200  # of the original's predictions, 100 kB each for 49,152 words
NOISE_TOKENS = 1024


class Evaluator:
    """One original on its passages; compressed models go by any key."""

    def __init__(self, original: nn.Module, passages: Sequence[Passage]) -> None:
        self.passages = passages
        self.floor: Reading | None = None
        self.original: Reading | None = None  # mean nats per token on the text that was read
        self.references: dict[int, Tensor] = {}
        self._original = original
        self._scores: dict[Hashable, list[Score]] = {}
        self._nll: dict[int, Floats] = {}
        self._read = 0  # passages that `original` is of

    def evaluate(self, key: Hashable, model: nn.Module, tokens: int) -> tuple[Quality, bool]:
        """One passage more, unless there are enough already: (quality so far, whether that is enough)."""
        scores = self._scores.setdefault(key, [])

        def enough() -> bool:
            return sum(s.tokens + s.broken for s in scores) >= tokens or len(scores) == len(self.passages)

        if not scores or not enough():
            number = len(scores)
            passage = self.passages[number]
            scores.append(quality.score(passage, self._reference(number), quality.logits_of(model, passage)))
        return quality.summarize(scores, self.original, self.floor), enough()

    def scores(self, key: Hashable) -> list[Score]:
        """What is known of one compressed model, passage by passage."""
        return self._scores.get(key, [])

    def keys(self) -> list[Hashable]:
        """The compressed models of which something is known."""
        return list(self._scores)

    def forget(self, key: Hashable) -> None:
        """What was found out about one compressed model."""
        self._scores.pop(key, None)

    def find_floor(self) -> Iterator[Reading]:
        """The noise floor (see `quality.noise_floor`), once; refined passage by passage."""
        if self.floor is None:
            found = None
            for found in quality.noise_floor(self._original, self.passages, NOISE_TOKENS):
                yield found
            self.floor = found

    def read(self, tokens: int | None = None) -> Iterator[float]:
        """The original on the first passages that hold `tokens` tokens, on all by default, unless it is known on as
        many: what all perplexities are told against, by control variate; yields the share done."""
        enough = len(self.passages) if tokens is None else 1
        while enough < len(self.passages) and sum(p.ids.shape[1] - 1 for p in self.passages[:enough]) < (tokens or 0):
            enough += 1
        if enough <= self._read:
            return
        for number in range(enough):
            if number not in self._nll:
                self._nll[number] = quality.nll_of(self.passages[number], self._reference(number))
            yield (number + 1) / enough
        self.original, self._read = quality.mean_nll([self._nll[number] for number in range(enough)]), enough

    def summary(self, key: Hashable) -> Quality | None:
        """What is known of one compressed model, told against what is known of the original by now."""
        scores = self._scores.get(key)
        return quality.summarize(scores, self.original, self.floor) if scores else None

    def _reference(self, number: int) -> Tensor:
        if number in self.references:
            return self.references[number]
        logits = quality.logits_of(self._original, self.passages[number])
        if sum(len(kept) for kept in self.references.values()) + len(logits) <= REFERENCE_TOKENS_KEPT:
            self.references[number] = logits
        return logits
