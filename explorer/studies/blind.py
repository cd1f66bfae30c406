"""Can people tell which of two texts is the compressed model's? Answers, and what they prove."""

from collections.abc import Iterable
from dataclasses import dataclass

from explorer.values.reading import Reading
from explorer.values.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer about one pair of texts."""

    recipe: Recipe
    right: bool


@dataclass(frozen=True, kw_only=True)
class Result:
    """All answers about one setting: the share that was right, with its exact 95 % interval (Clopper and Pearson,
    Biometrika 26(4), 1934), and whether that lies above one half."""

    recipe: Recipe
    right: Reading
    apart: bool


def results(answers: Iterable[Answer]) -> list[Result]:
    """One for each setting, in the order of their first answers."""
    by_recipe: dict[Recipe, list[bool]] = {}
    for answer in answers:
        by_recipe.setdefault(answer.recipe, []).append(answer.right)
    return [_result(recipe, outcomes) for recipe, outcomes in by_recipe.items()]


def _result(recipe: Recipe, outcomes: list[bool]) -> Result:
    from scipy.stats import binomtest  # noqa: PLC0415 - two seconds that a start would pay

    found = binomtest(sum(outcomes), len(outcomes)).proportion_ci(0.95, method="exact")
    low, high = float(found.low), float(found.high)
    share = sum(outcomes) / len(outcomes)
    right = Reading(value=share, unit="share", how="measured", n=len(outcomes), low=low, high=high)
    return Result(recipe=recipe, right=right, apart=low > 0.5)
