"""Curves along the sliders: what is measured once is kept, and what is between and beyond them."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.workbench.curves import POINTS, Curves, between


def kl_of(recipe: Recipe) -> float:
    """A world in which techniques multiply each other by two where they meet."""
    parts = [math.exp(6 * recipe.sparsity) / 1e3 if recipe.sparsity else 0, 4 ** -(recipe.bits - 4) / 10]
    parts[1] = parts[1] if recipe.bits < 16 else 0
    parts += [4 ** -(recipe.head_bits - 4) / 50 if recipe.head_bits < 16 else 0, 2 * (1 - recipe.keep)]
    return sum(parts) * (2 if sum(map(bool, parts)) > 1 else 1)


class World:
    def __init__(self) -> None:
        self.asked: list[Recipe] = []

    def measure(self, recipe: Recipe) -> Iterator[Reading]:
        self.asked.append(recipe)
        yield Reading(value=9.0, unit="nats", how="measured")
        yield Reading(value=kl_of(recipe), unit="nats", how="measured")


@pytest.fixture
def world() -> World:
    return World()


def test_all_points_are_measured_once_and_kept(world: World, tmp_path: Path) -> None:
    curves = Curves(world.measure, tmp_path / "curves.json")
    shares = list(curves.steps())
    assert shares == sorted(shares) and shares[-1] == 1 == curves.done
    assert len(world.asked) == len(set(world.asked)) == sum(map(len, POINTS.values()))
    again = Curves(world.measure, tmp_path / "curves.json")
    assert list(again.steps()) == [] and again.points == curves.points


def test_an_interrupted_start_goes_on_where_it_was(world: World, tmp_path: Path) -> None:
    for _, step in zip(range(9), Curves(world.measure, tmp_path / "c.json").steps(), strict=False):
        assert step < 1
    asked = len(world.asked)
    list(Curves(world.measure, tmp_path / "c.json").steps())
    assert len(world.asked) <= sum(map(len, POINTS.values())) + 1 and asked > 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 1, "points": {"sparsity": 3}}'])
def test_a_file_that_is_none_counts_as_absent(world: World, tmp_path: Path, content: str) -> None:
    file = tmp_path / "c.json"
    file.write_text(content)
    assert Curves(world.measure, file).done == 0


def test_predictions_are_exact_on_points_and_near_between_them(world: World, tmp_path: Path) -> None:
    curves = Curves(world.measure, tmp_path / "c.json")
    assert curves.predict(Recipe(bits=4)) is None
    list(curves.steps())
    for recipe in (Recipe(bits=4), Recipe(sparsity=0.5), Recipe(keep=0.6), Recipe(sparsity=0.45), Recipe(head_bits=7)):
        found = curves.predict(recipe)
        assert found is not None and found.how == "estimated"
        assert found.value == pytest.approx(kl_of(recipe), rel=1e-6)


def test_what_no_curve_speaks_of_is_not_predicted(world: World, tmp_path: Path) -> None:
    curves = Curves(world.measure, tmp_path / "c.json")
    list(curves.steps())
    odd = ({}, {"bits": 4, "quant": "rtn"}, {"depth": 0.1}, {"bits": 4, "protect": ("last",)}, {"sparsity": 0.05})
    for values in odd:
        assert curves.predict(Recipe(**values)) is None  # type: ignore[arg-type]


def test_how_techniques_meet_is_learned_from_what_was_measured(world: World, tmp_path: Path) -> None:
    curves = Curves(world.measure, tmp_path / "c.json")
    list(curves.steps())
    one, other = Recipe(sparsity=0.5, bits=4), Recipe(sparsity=0.3, bits=3, keep=0.8)
    before = curves.told(other)
    curves.learn(one, Reading(value=kl_of(one), unit="nats", how="measured"))
    after = curves.predict(other)
    assert before and before.value == pytest.approx(kl_of(other) / 2) and curves.told(other) == before
    assert after and after.value == pytest.approx(kl_of(other))
    curves.learn(Recipe(bits=4), Reading(value=5.0, unit="nats", how="measured"))
    assert curves.predict(other) == after and curves.told(one) is None


def test_between_two_points_the_logarithm_runs_straight() -> None:
    assert between({1.0: 1.0, 3.0: 4.0}, 2.0) == pytest.approx(2.0)
    assert between({1.0: 1.0, 3.0: 4.0}, 4.0) is None is between({}, 1.0)


def test_a_curve_is_shown_when_it_is_whole_and_a_broken_point_ends_no_measuring(tmp_path: Path) -> None:
    def broken(recipe: Recipe) -> Iterator[Reading]:
        yield Reading(value=math.nan if recipe.bits == 2 else 0.5, unit="nats", how="measured")

    curves, shown = Curves(broken, tmp_path / "c.json"), []
    for _ in curves.steps():
        shown.append({name for name, known in curves.whole.items() if known})
    assert curves.done == 1 and shown[0] == set() and shown[-1] == set(POINTS)
    assert curves.predict(Recipe(bits=2)) is None and curves.predict(Recipe(bits=3)) is not None
    assert list(Curves(broken, tmp_path / "c.json").steps()) == []
