"""What was found out adds up; the oldest goes, the original stays."""

import pytest

from explorer.measure.size import footprint
from explorer.values.footprint import Cost
from explorer.values.measurement import Measurement
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.workbench import history
from explorer.workbench.history import History


def bare(recipe: Recipe) -> Measurement:
    flops = Reading(value=1, unit="FLOP", how="calculated")
    size = footprint(100, 50, 400, 100, "measured", {})
    return Measurement(
        recipe=recipe, model="m", size=size, cost=Cost(flops_per_token=flops, useful_flops_per_token=flops)
    )


def test_the_oldest_go_and_are_told_but_never_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "KEPT", 3)
    gone: list[Recipe] = []
    kept = History(gone.append)
    recipes = [Recipe(), *(Recipe(bits=bits) for bits in (8, 7, 6, 5))]
    for recipe in recipes:
        kept.add(bare(recipe))
    assert gone == recipes[1:3] and kept.recipes() == [Recipe(), *recipes[3:]]
    assert kept.get(recipes[1]) is None and [row.recipe for row in kept.rows()] == kept.recipes()


def test_what_is_found_later_is_added() -> None:
    kept = History(lambda _: None)
    first = kept.add(bare(Recipe(bits=4)), seconds={"apply": 1.0})
    second = kept.add(first, model="n")
    assert kept.get(Recipe(bits=4)) is second and (second.seconds, second.model) == ({"apply": 1.0}, "n")
    kept.drop(Recipe(bits=4))
    assert kept.rows() == []
