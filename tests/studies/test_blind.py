"""What answers prove: exact intervals, and no claim from few or even ones."""

import pytest

from explorer.studies.blind import Answer, results
from explorer.values.recipe import Recipe

FOUR, EIGHT = Recipe(bits=4), Recipe(bits=8)


def answers(recipe: Recipe, right: int, wrong: int) -> list[Answer]:
    return [Answer(recipe=recipe, right=each < right) for each in range(right + wrong)]


@pytest.mark.parametrize(
    "right, wrong, low, high", [(10, 0, 0.6915, 1.0), (9, 1, 0.5550, 0.9975), (5, 5, 0.1871, 0.8129)]
)
def test_intervals_are_the_exact_ones_of_the_tables(right: int, wrong: int, low: float, high: float) -> None:
    (found,) = results(answers(FOUR, right, wrong))
    assert found.right.value == right / (right + wrong) and found.right.n == right + wrong
    assert (found.right.low, found.right.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_only_a_whole_interval_above_one_half_tells_apart() -> None:
    apart = [results(answers(FOUR, right, 10 - right))[0].apart for right in range(11)]
    assert apart == [False] * 9 + [True] * 2
    assert not results(answers(FOUR, 5, 0))[0].apart and results(answers(FOUR, 6, 0))[0].apart


def test_settings_are_told_apart_one_by_one() -> None:
    found = results([*answers(FOUR, 3, 0), *answers(EIGHT, 1, 1), *answers(FOUR, 4, 0)])
    assert [(each.recipe, each.right.n, each.apart) for each in found] == [(FOUR, 7, True), (EIGHT, 2, False)]
    assert results([]) == []
