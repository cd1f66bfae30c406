"""Recipes with a name."""

from explorer.values.presets import PRESETS
from explorer.values.recipe import Recipe


def test_presets_are_different_recipes_and_the_first_is_the_original() -> None:
    assert len(set(PRESETS.values())) == len(PRESETS)
    assert next(iter(PRESETS.values())) == Recipe()
