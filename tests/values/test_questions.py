"""Which answers flipped, and whether that can be luck."""

import pytest

from explorer.values.questions import Answer, Question, Questions, Tally
from explorer.values.reading import Reading


def answer(original: str | None, compressed: str | None, kind: str = "facts") -> Answer:
    question = Question(kind=kind, begins="Bees make", right="honey", wrong=("wine", "cheese", "sugar"))
    return Answer(question=question, original=original, compressed=compressed)


@pytest.mark.parametrize(
    ("original", "compressed", "lost", "gained"),
    [
        ("honey", "wine", True, False),
        ("honey", None, True, False),
        ("wine", "honey", False, True),
        (None, "honey", False, True),
        ("honey", "honey", False, False),
        ("wine", "sugar", False, False),
    ],
)
def test_only_what_one_of_both_gets_right_flips(
    original: str | None, compressed: str | None, lost: bool, gained: bool
) -> None:
    one = answer(original, compressed)
    assert (one.lost, one.gained) == (lost, gained)


def questions_of(*answers: Answer, p: float, lost: int = 0, gained: int = 0, of: int = 2) -> Questions:
    half = Reading(value=0.5, unit="share", how="measured")
    counts = {"right": half, "right_original": half, "difference": half, "lost": lost, "gained": gained}
    whole = Tally(kind="all", asked=len(answers), **counts)  # type: ignore[arg-type]
    return Questions(answers=answers, of=of, whole=whole, by_kind=(whole,), p=p, chance=0.5)


def test_the_verdict_is_that_of_the_test() -> None:
    assert questions_of(p=0.051, lost=9).verdict == "no clear difference"
    assert questions_of(p=0.05, lost=9, gained=1).verdict == "fewer"
    assert questions_of(p=0.01, lost=1, gained=9).verdict == "more"


def test_a_record_lists_what_flipped_lost_ones_first() -> None:
    lost, gained, kept = answer("honey", "wine"), answer("wine", "honey"), answer("honey", "honey")
    told = questions_of(gained, kept, lost, p=1.0, of=3)
    record = told.to_dict()
    assert [(one["original"], one["compressed"]) for one in record["flipped"]] == [("honey", "wine"), ("wine", "honey")]
    assert record["by_kind"]["all"]["right"] == {"value": 0.5, "low": None, "high": None, "n": None}
    assert told.complete and not questions_of(kept, p=1.0, of=3).complete
