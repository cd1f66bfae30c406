"""The slider state: checked, hashable, and the same after every round trip."""

import json
import shlex
from urllib.parse import parse_qsl

import pytest

from explorer.__main__ import _parser
from explorer.bench.speed import every_recipe
from explorer.commands.options import recipes_of
from explorer.studies.session import arguments_of
from explorer.values.presets import PRESETS
from explorer.values.recipe import Recipe

ODD = [
    Recipe(sparsity=0.5, prune="sparsegpt", scope="global"),
    Recipe(pattern="2:4", prune="magnitude"),
    Recipe(pattern="4:8", prune="ria", bits=4, quant="gptq"),
    Recipe(bits=3, quant="hqq", group="0", residual_rank=16),
    Recipe(quant="nf4", double=True),
    Recipe(quant="int8", head_bits=6),
    Recipe(keep=0.6, factorize="asvd", allocate="global"),
    Recipe(sparsity=0.5, heal=150, heal_rate=0.5, heal_seed=3),
    Recipe(depth=0.5, heal=60),
    Recipe(depth=0.1, depth_by="angular", width=0.25, width_by="flap", heads=0.3),
    Recipe(layers=("mlp=bits:4,keep:0.8", "model.layers.0.*=bits:8,group:0"), protect=("first", "head")),
]
RECIPES = [*every_recipe(), *PRESETS.values(), *ODD]


def test_every_recipe_survives_dict_json_and_url() -> None:
    for recipe in RECIPES:
        assert Recipe.from_dict(recipe.to_dict()) == recipe
        assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
        assert Recipe.from_dict(dict(parse_qsl(recipe.to_query()))) == recipe


def test_equal_settings_are_one_key_whatever_type_they_came_as() -> None:
    assert Recipe(sparsity=0.5) == Recipe(sparsity=0.500000001) == Recipe.from_dict({"sparsity": "0.5"})
    assert len({Recipe(keep=1), Recipe(keep=1.0), Recipe(bits=16.0), Recipe()}) == 1  # type: ignore[arg-type]


def test_unknown_settings_and_text_that_is_no_number_are_refused() -> None:
    with pytest.raises(ValueError, match="Unknown setting: colour"):
        Recipe.from_dict({"colour": "red"})
    with pytest.raises(ValueError, match="bits must be a number"):
        Recipe.from_dict({"bits": "four"})


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Recipe().bits = 4  # type: ignore[misc]


@pytest.mark.parametrize("recipe", ODD, ids=Recipe.to_query)
def test_the_options_of_a_recipe_make_that_recipe(recipe: Recipe) -> None:
    options = _parser().parse_args(["measure", *shlex.split(arguments_of(recipe))])
    assert recipes_of(options) == [recipe]


@pytest.mark.parametrize(
    "given, meant",
    [
        ({"prune": "ria", "scope": "layer"}, {}),  # without zeros
        ({"quant": "gptq", "group": "32", "residual_rank": 8}, {}),  # without rounding
        ({"factorize": "svd", "allocate": "global"}, {}),
        ({"depth_by": "angular", "width_by": "flap"}, {}),
        ({"heal": 100, "heal_rate": 2.0, "heal_seed": 1}, {}),  # nothing was lost
        ({"bits": 4, "heal_rate": 2.0, "heal_seed": 1}, {"bits": 4}),
        ({"pattern": "2:4"}, {"pattern": "2:4", "sparsity": 0.5}),
        ({"pattern": "4:8", "sparsity": 0.9, "scope": "global"}, {"pattern": "4:8"}),
        ({"quant": "nf4"}, {"quant": "nf4", "bits": 4}),
        ({"quant": "int8", "bits": 2, "double": True}, {"quant": "int8", "bits": 8}),
        ({"bits": 4, "double": True}, {"bits": 4}),
        ({"layers": ("b=bits:4", " a=bits:3 ", "b=bits:4", "")}, {"layers": ("a=bits:3", "b=bits:4")}),
        ({"layers": "a=bits:3;b=bits:4"}, {"layers": ["a=bits:3", "b=bits:4"]}),
    ],
)
def test_one_meaning_is_one_key(given: dict[str, object], meant: dict[str, object]) -> None:
    assert Recipe(**given) == Recipe(**meant) and hash(Recipe(**given)) == hash(Recipe(**meant))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given",
    [
        {"layers": ("mlp=sparsity:0.5",), "prune": "ria", "scope": "layer", "residual_rank": 8},
        {"layers": ("mlp=bits:4",), "quant": "gptq", "group": "32", "residual_rank": 8},
        {"layers": ("mlp=keep:0.5",), "factorize": "svd"},
        {"head_bits": 4, "quant": "hqq", "group": "32"},
        {"sparsity": 0.5, "residual_rank": 8},
        {"head_bits": 4, "heal": 20, "heal_rate": 2.0},
        {"layers": ("mlp=keep:0.5",), "heal": 20, "heal_seed": 2},
    ],
)
def test_what_has_an_effect_in_one_place_is_kept(given: dict[str, object]) -> None:
    recipe = Recipe(**given)  # type: ignore[arg-type]
    assert all(getattr(recipe, name) == value for name, value in given.items())


@pytest.mark.parametrize("zeros", [{"sparsity": 0.5}, {"pattern": "2:4"}, {"layers": ("mlp=sparsity:0.5",)}])
@pytest.mark.parametrize("quant", ["nf4", "fp4", "int8"])
def test_formats_that_store_every_weight_refuse_zeros(quant: str, zeros: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{quant} cannot store zeros"):
        Recipe(quant=quant, **zeros)  # type: ignore[arg-type]


def test_what_needs_data_says_so_and_has_a_way_without() -> None:
    needy = [Recipe(sparsity=0.5), Recipe(bits=4), Recipe(keep=0.6), Recipe(depth=0.1), Recipe(bits=4, quant="gptq")]
    assert not any(recipe.data_free for recipe in needy)
    free = [Recipe(), Recipe(bits=4, quant="hqq"), Recipe(quant="nf4"), Recipe(sparsity=0.5, prune="magnitude")]
    assert all(recipe.data_free and recipe.without_data() == recipe for recipe in free)
    assert all(recipe.without_data().data_free for recipe in needy if not recipe.structural)
    assert Recipe(bits=4, keep=0.5).without_data() == Recipe(bits=4, keep=0.5, quant="rtn", factorize="svd")
