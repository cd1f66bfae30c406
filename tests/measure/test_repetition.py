"""Many prompts, so that one lucky sample proves nothing."""

from collections.abc import Callable, Iterator

import pytest

from explorer.measure.repetition import COLLAPSED, collapse, prompts, repeated_share
from explorer.values.written import STOPPED, Collapse, Piece


def writer(texts: dict[str, list[int]], end: str = "") -> Callable[[str], Iterator[Piece]]:
    def write(prompt: str) -> Iterator[Piece]:
        tokens = texts[prompt]
        for count, token in enumerate(tokens, 1):
            yield Piece(text=" ".join(map(str, tokens[:count])), token=token, tokens=count, ms=1.0)
        if end:
            yield Piece(text=" ".join(map(str, tokens)), token=1, tokens=len(tokens), ms=1.0, stopped=end)

    return write


def test_there_are_at_least_twenty_different_prompts() -> None:
    assert len(set(prompts())) == len(prompts()) >= 20
    assert all(10 < len(prompt) < 120 for prompt in prompts())


def test_repeated_shares_by_hand() -> None:
    assert repeated_share([1, 2, 3, 4, 5, 6]) == 0
    assert repeated_share([7] * 13) == 0.9  # ten 4-grams, all one
    assert repeated_share([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(0.2)
    assert repeated_share([1, 2, 3]) == 0 and repeated_share([1, 2, 1, 2], gram=2) == pytest.approx(1 / 3)


def test_one_of_twenty_prompts_is_found_and_all_texts_are_kept() -> None:
    texts = {str(i): list(range(i, i + 30)) for i in range(19)} | {"loop": [5, 6] * 15}
    found = list(collapse(writer(texts), list(texts)))
    last = found[-1]
    assert [len(each.texts) for each in found] == list(range(1, 21))
    assert (last.collapsed.value, last.collapsed.n, last.early.value) == (0.05, 20, 0)
    assert last.collapsed.low == pytest.approx(0.0089, abs=1e-4) and last.collapsed.high == pytest.approx(
        0.2361, abs=1e-4
    )
    assert [t.prompt for t in last.texts if t.collapsed] == ["loop"] and last.texts[-1].collapsed == "repeats"
    assert last.texts[-1].repeated.value > COLLAPSED and last.texts[-1].text.startswith("5 6 5 6")
    assert last.repeated.value == pytest.approx(last.texts[-1].repeated.value / 20)
    assert last.repeated.low == 0 and last.repeated.high is not None and last.repeated.high > last.repeated.value


def only(texts: dict[str, list[int]], end: str) -> Collapse:
    return list(collapse(writer(texts, end), list(texts)))[-1]


def test_an_answer_that_ends_at_once_is_a_collapse_and_a_short_one_is_not() -> None:
    found = only({"a": [3, 4], "b": [3, 4, 5, 6, 7, 8]}, "The model ended its answer.")
    assert [t.collapsed for t in found.texts] == ["stops early", ""] and found.early.value == 0.5
    assert [t.tokens for t in found.texts] == [2, 6]  # the end itself is no token of the text


def test_a_model_that_ends_before_its_first_word_has_an_empty_text() -> None:
    found = only({"a": []}, "The model ended its answer.")
    assert found.texts[0].tokens == 0 and found.texts[0].collapsed == "stops early"


def test_a_destroyed_model_collapsed() -> None:
    def write(prompt: str) -> Iterator[Piece]:
        yield Piece(text="", token=-1, tokens=0, ms=0.0, stopped="This setting destroyed the model.")

    assert list(collapse(write, ["a"]))[0].texts[0].collapsed == "not a number"


def test_a_text_that_somebody_stopped_ends_it_and_is_not_counted() -> None:
    assert list(collapse(writer({"a": [1, 2, 3]}, STOPPED), ["a"])) == []


def test_nothing_is_written_that_nobody_waits_for() -> None:
    asked: list[str] = []

    def write(prompt: str) -> Iterator[Piece]:
        asked.append(prompt)
        yield Piece(text="x", token=1, tokens=1, ms=1.0)

    steps = collapse(write)
    next(steps)
    assert asked == [prompts()[0]]
