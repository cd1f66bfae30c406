"""A recipe in words: no two say the same."""

from explorer.values.recipe import Recipe
from tests.values.test_recipe import RECIPES


def test_the_plain_recipe_has_an_empty_query_and_the_name_original() -> None:
    assert Recipe().to_query() == ""
    assert Recipe().words() == "original"


def test_different_recipes_have_different_words_and_queries() -> None:
    assert len({recipe.to_query() for recipe in RECIPES}) == len(set(RECIPES))
    named = {recipe for recipe in RECIPES if recipe.group == "auto"}
    assert len({recipe.words() for recipe in named}) == len(named)
