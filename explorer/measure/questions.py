"""How many easy questions a model still gets right: of the ends of a sentence, the one that it finds likeliest.

An end's score is its log-likelihood after the beginning, divided by its bytes, so that long ends lose nothing: as in
`acc_norm` of EleutherAI's lm-evaluation-harness (L. Gao, Multiple Choice Normalization in LM Evaluation, 2021), called
`character` in OLMES (arXiv 2406.08446). All ends of a question are read off the same few rows of tokens: their
beginning is read once wherever ends are one token long.
"""

import json
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn

from explorer import assets
from explorer.layers.linear import device_of
from explorer.measure.intervals import paired_share, wilson
from explorer.measure.quality import in_turn
from explorer.model.tokens import front
from explorer.values.questions import Answer, Question, Questions, Tally
from explorer.values.reading import Reading

TOGETHER = 44  # questions between two looks at whether anybody still waits
ROOM = 256  # tokens of one pass, padding included
Rows = list[tuple[int, ...]]


@cache
def questions() -> tuple[Question, ...]:
    """The project's own, one of each kind after the other, so that any first part is a fair mix."""
    given = json.loads(assets.read("questions.json"))
    kinds = [
        [Question(kind=kind, begins=q["begins"], right=q["right"], wrong=tuple(q["wrong"])) for q in group]
        for kind, group in given.items()
    ]
    return tuple(in_turn(kinds))


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One question in tokens: what stands before the ends (`before`), and each end's own, the right one's first."""

    question: Question
    before: tuple[int, ...]
    ends: tuple[tuple[int, ...], ...]

    @cached_property
    def rows(self) -> Rows:
        """What a model reads to tell every token of every end: no row is the beginning of another."""
        wanted = sorted({self.before + end[:-1] for end in self.ends}, key=len, reverse=True)
        return [row for i, row in enumerate(wanted) if not any(longer[: len(row)] == row for longer in wanted[:i])]


def sheet(tokenizer: Any, question: Question, longest: int) -> Sheet:
    """A question in tokens, of which a model reads at most `longest`, the last ones. A token that an end shares with
    its beginning belongs to neither alone: ends begin where tokens of a whole sentence part from the beginning's."""
    lead = tuple(front(tokenizer, always=True))
    whole = [lead + _ids(tokenizer, f"{question.begins} {choice}") for choice in question.choices]
    alone = lead + _ids(tokenizer, question.begins)
    common = min([_shared(alone, each) for each in whole] + [len(each) - 1 for each in whole])
    before = whole[0][: max(common, 1)]
    ends = tuple(each[len(before) :] for each in whole)
    room = longest + 1 - max(map(len, ends))
    return Sheet(question=question, before=before[-max(room, 1) :], ends=ends)


@torch.inference_mode()
def answers(model: nn.Module, sheets: Sequence[Sheet]) -> list[str | None]:
    """The end that the model finds likeliest a byte, None where its output is not a number. Of equally likely ends a
    wrong one counts, so that a model which tells nothing apart gets nothing right."""
    first = {
        row: len(sheet.before) - 1 for sheet in sheets for row in sheet.rows
    }  # the place that tells an end's first
    told: dict[
        tuple[int, ...], Tensor
    ] = {}  # by row: predictions of what comes after its beginning and each end's part
    for rows in _passes(list(first)):
        longest = len(rows[-1])  # padded by their last token, which changes nothing before it
        ids = torch.tensor([row + row[-1:] * (longest - len(row)) for row in rows])
        logits = model(input_ids=ids.to(device_of(model)), use_cache=False).logits
        told |= {row: logits[i, first[row] : len(row)].clone() for i, row in enumerate(rows)}
    return [_answer(sheet, told) for sheet in sheets]


def _answer(sheet: Sheet, told: Mapping[tuple[int, ...], Tensor]) -> str | None:
    choices, scores = sheet.question.choices, list[float]()
    for choice, end in zip(choices, sheet.ends, strict=True):
        read = sheet.before + end[:-1]
        row = next(row for row in sheet.rows if row[: len(read)] == read)
        nats = told[row][: len(end)].float().log_softmax(-1).cpu()
        scores.append(float(nats[range(len(end)), list(end)].double().sum()) / len(choice.encode()))
    if not all(map(math.isfinite, scores)):
        return None
    return choices[max(range(len(scores)), key=lambda i: (scores[i], i))]


def _passes(rows: Rows) -> Iterator[Rows]:
    """Rows of about one length together, the longest last in each pass."""
    some: Rows = []
    for row in sorted(rows, key=len):
        if some and (len(some) + 1) * len(row) > ROOM:
            yield some
            some = []
        some.append(row)
    if some:
        yield some


class Examiner:
    """One original and its questions; compressed models go by any key, and every asking goes on where it stopped."""

    def __init__(self, original: nn.Module, tokenizer: Any, asked: Sequence[Question], longest: int) -> None:
        """`longest`: tokens that the model can read at once."""
        self.asked, self._longest = tuple(asked), longest
        self._original, self._tokenizer = original, tokenizer
        self._sheets: list[Sheet] = []
        self._right: list[str | None] = []  # the original's answers
        self._answers: dict[Hashable, list[str | None]] = {}

    def ask(self, key: Hashable, model: nn.Module, count: int | None = None) -> tuple[Questions, bool]:
        """A few questions more, of the first `count` or of all: (answers so far, whether those are all)."""
        found = self._answers.setdefault(key, [])
        wanted = min(count or len(self.asked), len(self.asked))
        if len(found) < wanted:
            start, end = len(found), min(len(found) + TOGETHER, wanted)
            self._sheets += [sheet(self._tokenizer, q, self._longest) for q in self.asked[len(self._sheets) : end]]
            if len(self._right) < end:
                self._right += answers(self._original, self._sheets[len(self._right) : end])
            same = model is self._original
            found += self._right[start:end] if same else answers(model, self._sheets[start:end])
        pairs = zip(self.asked, self._right, found[:wanted], strict=False)
        given = [Answer(question=q, original=one, compressed=other) for q, one, other in pairs]
        return summarize(given, wanted, certain=model is self._original), len(found) >= wanted

    def keys(self) -> list[Hashable]:
        """The compressed models that were asked."""
        return list(self._answers)

    def forget(self, key: Hashable) -> None:
        """What one compressed model answered."""
        self._answers.pop(key, None)


def summarize(given: Sequence[Answer], of: int, certain: bool = False) -> Questions:
    """Counts with Wilson's intervals, the paired difference of both shares, McNemar's exact test; `certain`: both are
    one model, so no difference can be."""
    whole = _tally("all", given, certain)
    kinds = dict.fromkeys(answer.question.kind for answer in given)
    parts = [_tally(kind, [a for a in given if a.question.kind == kind], certain) for kind in kinds]
    chance = sum(1 / len(answer.question.choices) for answer in given)
    return Questions(
        answers=tuple(given),
        of=of,
        whole=whole,
        by_kind=tuple(sorted(parts, key=lambda part: part.difference.value)),
        p=mcnemar(whole.lost, whole.gained),
        chance=chance,
    )


def mcnemar(lost: int, gained: int) -> float:
    """Exact two-sided p that as many were lost as gained, flips being fair coins (McNemar, Psychometrika 12, 1947)."""
    flips, least = lost + gained, min(lost, gained)
    tail: int = sum(math.comb(flips, k) for k in range(least + 1))
    return min(1.0, 2 * tail / 2.0**flips)


def _tally(kind: str, given: Sequence[Answer], certain: bool) -> Tally:
    lost, gained = (sum(getattr(answer, name) for answer in given) for name in ("lost", "gained"))
    counts = [sum(getattr(a, side) == a.question.right for a in given) for side in ("compressed", "original")]
    right, right_original = (_count(count, len(given)) for count in counts)
    difference = paired_share(lost, gained, len(given), certain)
    return Tally(
        kind=kind,
        asked=len(given),
        right=right,
        right_original=right_original,
        difference=difference,
        lost=lost,
        gained=gained,
    )


def _count(right: int, n: int) -> Reading:
    low, high = (n * end for end in wilson(right / n, n))
    return Reading(value=right, unit="questions", how="measured", low=low, high=high, n=n)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens are the same."""
    return next(
        (i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other))
    )


def _ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
