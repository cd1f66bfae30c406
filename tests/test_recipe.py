"""The slider state: checked, hashable, and the same after every round trip."""

import json
import math
from urllib.parse import parse_qsl

import pytest

from explorer.bench import every_recipe
from explorer.recipe import BITS, GROUPS, KEEP, PRESETS, SPARSITY, Range, Recipe

RECIPES = [*every_recipe(), *PRESETS.values()]


def test_every_recipe_survives_dict_json_and_url() -> None:
    for recipe in RECIPES:
        assert Recipe.from_dict(recipe.to_dict()) == recipe
        assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
        assert Recipe.from_dict(dict(parse_qsl(recipe.to_query()))) == recipe


def test_the_plain_recipe_has_an_empty_query_and_the_name_original() -> None:
    assert Recipe().to_query() == ""
    assert Recipe().words() == "original"


def test_different_recipes_have_different_words_and_queries() -> None:
    assert len({recipe.to_query() for recipe in RECIPES}) == len(set(RECIPES))
    named = {recipe for recipe in RECIPES if recipe.group == "auto"}
    assert len({recipe.words() for recipe in named}) == len(named)


def test_equal_settings_are_one_key_whatever_type_they_came_as() -> None:
    assert Recipe(sparsity=0.5) == Recipe(sparsity=0.500000001) == Recipe.from_dict({"sparsity": "0.5"})
    assert len({Recipe(keep=1), Recipe(keep=1.0), Recipe(bits=16.0), Recipe()}) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("name, range_", [("sparsity", SPARSITY), ("keep", KEEP)])
def test_every_stop_of_a_slider_is_accepted(name: str, range_: Range) -> None:
    stops = round((range_.high - range_.low) / range_.step)
    for i in range(stops + 1):
        Recipe(**{name: range_.low + i * range_.step})


@pytest.mark.parametrize("name, value", [("sparsity", sum([0.05] * 18)), ("keep", 1 - 16 * 0.05)])
def test_a_stop_that_floats_have_blurred_is_still_that_stop(name: str, value: float) -> None:
    assert getattr(Recipe(**{name: value}), name) == round(value, 2)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_is_accepted_and_has_a_group_size(bits: int, group: str) -> None:
    size = Recipe(bits=bits, head_bits=bits, group=group).group_size(bits)
    assert size == {"64": 64, "32": 32, "row": 0, "auto": 0 if bits == 8 else 64}[group]


@pytest.mark.parametrize("name", ["sparsity", "keep", "bits", "head_bits", "group"])
@pytest.mark.parametrize("value", [-1, 2.5, math.nan, math.inf, True, None, "many", [4]])
def test_what_lies_outside_is_refused_by_the_name_of_its_field(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name} must"):
        Recipe(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["sparsity", "keep"])
def test_a_number_beyond_floats_is_refused_like_any_other(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must"):
        Recipe(**{name: 10**400})


@pytest.mark.parametrize("name, low, high", [("sparsity", 0.0, 0.9), ("keep", 0.2, 1.0)])
def test_the_refusal_names_the_range(name: str, low: float, high: float) -> None:
    with pytest.raises(ValueError, match=f"between {low:g} and {high:g}"):
        Recipe(**{name: high + 0.05})


def test_unknown_settings_and_text_that_is_no_number_are_refused() -> None:
    with pytest.raises(ValueError, match="Unknown setting: colour"):
        Recipe.from_dict({"colour": "red"})
    with pytest.raises(ValueError, match="bits must be a number"):
        Recipe.from_dict({"bits": "four"})


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Recipe().bits = 4  # type: ignore[misc]


def test_presets_are_different_recipes_and_the_first_is_the_original() -> None:
    assert len(set(PRESETS.values())) == len(PRESETS)
    assert next(iter(PRESETS.values())) == Recipe()
