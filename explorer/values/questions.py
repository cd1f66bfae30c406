"""Easy questions with one right end of four, and which of them two models still get right."""

from dataclasses import dataclass
from typing import Any, Literal

from explorer.values.reading import Reading, ends

Verdict = Literal["fewer", "more", "no clear difference"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """The beginning of a sentence, its right end, and wrong ones."""

    kind: str
    begins: str
    right: str
    wrong: tuple[str, ...]

    @property
    def choices(self) -> tuple[str, ...]:
        """The right one first."""
        return (self.right, *self.wrong)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What both models answer; None where a model's output is not a number."""

    question: Question
    original: str | None
    compressed: str | None

    @property
    def lost(self) -> bool:
        """Only the original got it right."""
        return self.original == self.question.right != self.compressed

    @property
    def gained(self) -> bool:
        """Only the compressed model got it right."""
        return self.compressed == self.question.right != self.original

    def to_dict(self) -> dict[str, str | None]:
        asked = self.question
        told = {"kind": asked.kind, "begins": asked.begins, "right": asked.right}
        return told | {"original": self.original, "compressed": self.compressed}


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Of `asked` questions: how many each model got right, with 95 % intervals, the compressed model's share less the
    original's, and how many only one of them got right."""

    kind: str
    asked: int
    right: Reading
    right_original: Reading
    difference: Reading
    lost: int
    gained: int

    def to_dict(self) -> dict[str, Any]:
        """Counts, and readings with their ends."""
        counts = {name: getattr(self, name) for name in ("asked", "lost", "gained")}
        return counts | {name: ends(getattr(self, name)) for name in ("right", "right_original", "difference")}


@dataclass(frozen=True, kw_only=True)
class Questions:
    """All answers so far, of `of` questions; `p` is McNemar's exact, two-sided; `chance` what guessing gets right."""

    answers: tuple[Answer, ...]
    of: int
    whole: Tally
    by_kind: tuple[Tally, ...]
    p: float
    chance: float

    @property
    def complete(self) -> bool:
        """Whether every question was asked."""
        return len(self.answers) == self.of

    @property
    def flipped(self) -> list[Answer]:
        """Those that only one of the two models got right, the lost ones first."""
        return [a for a in self.answers if a.lost] + [a for a in self.answers if a.gained]

    @property
    def verdict(self) -> Verdict:
        """Whether the compressed model gets fewer right: only where McNemar's test says so at 5 %."""
        if self.p > 0.05:
            return "no clear difference"
        return "fewer" if self.whole.lost > self.whole.gained else "more"

    def to_dict(self) -> dict[str, Any]:
        """The whole, by kind, and the questions that flipped."""
        return self.whole.to_dict() | {
            "of": self.of,
            "p": self.p,
            "chance": self.chance,
            "verdict": self.verdict,
            "by_kind": {tally.kind: tally.to_dict() for tally in self.by_kind},
            "flipped": [answer.to_dict() for answer in self.flipped],
        }
