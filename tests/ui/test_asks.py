"""Values of the controls ↔ recipes: every method by its name, and `auto` as good as the calibration allows."""

import pytest

from explorer.ui.asks import RECIPE_CONTROLS, Controls, ask_from, controls_from
from explorer.values.presets import PRESETS
from explorer.values.recipe import Recipe

RECIPES = [
    *PRESETS.values(),
    Recipe(sparsity=0.5, prune="ria", scope="layer"),
    Recipe(pattern="2:4", prune="sparsegpt"),
    Recipe(bits=4, quant="gptq", group="32", head_bits=6, residual_rank=16),
    Recipe(keep=0.8, factorize="asvd"),
    Recipe(keep=0.8, allocate="global"),
    Recipe(depth=0.1, width=0.25, heads=0.3),
    Recipe(bits=4, layers=("first=bits:8", "mlp=bits:3"), protect=("last",)),
    Recipe(bits=4, sparsity=0.5),  # searched ranges, where auto would round to what follows a hand
    Recipe(bits=4, sparsity=0.5, quant="rtn"),
    Recipe(bits=4, quant="nf4", double=True),
    Recipe(depth=0.03, depth_by="angular", width=0.25, width_by="flap"),
    Recipe(sparsity=0.5, heal=150, heal_rate=0.5, heal_seed=3),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=Recipe.to_query)
def test_controls_give_their_recipe_back(recipe: Recipe) -> None:
    assert ask_from(Controls(*controls_from(recipe))).recipe == recipe


def test_there_is_a_control_for_every_value_in_order() -> None:
    plain = {name: getattr(Controls(), name) for name in RECIPE_CONTROLS}
    assert dict(zip(RECIPE_CONTROLS, controls_from(Recipe()), strict=True)) == plain | {"bits": 100, "head_bits": 100}


def test_auto_needs_no_data_before_the_calibration() -> None:
    values = Controls(sparsity=50, bits="4", keep=80)
    recipe = ask_from(values, calibrated=False).recipe
    assert recipe.data_free and (recipe.prune, recipe.quant, recipe.factorize) == ("magnitude", "rtn", "svd")


def test_auto_is_the_best_of_its_level_afterwards() -> None:
    live = ask_from(Controls(sparsity=50, keep=80)).recipe
    assert (live.prune, live.factorize) == ("wanda", "covariance") and not live.slow
    assert ask_from(Controls(bits="4")).recipe.quant == "search"
    assert ask_from(Controls(bits="4", sparsity=50)).recipe.quant == "rtn"  # follows a hand
    best = ask_from(Controls(sparsity=50, bits="4", level="best")).recipe
    assert (best.prune, best.quant) == ("sparsegpt", "gptq") and best.slow


def test_a_method_that_was_named_is_the_method_that_is_used() -> None:
    values = Controls(sparsity=50, prune="ria", bits="4", quant="hqq", keep=80, factorize="asvd")
    for calibrated in (False, True):
        recipe = ask_from(values, calibrated=calibrated).recipe
        assert (recipe.prune, recipe.quant, recipe.factorize) == ("ria", "hqq", "asvd")


@pytest.mark.parametrize("value", [None, "", "many", float("nan"), float("inf"), -10, 10**6])
@pytest.mark.parametrize("name", ["sparsity", "keep", "depth", "width", "heads", "residual_rank"])
def test_numbers_out_of_range_go_to_the_nearest(name: str, value: object) -> None:
    ask_from(Controls()._replace(**{name: value}))


@pytest.mark.parametrize("change", [{"prune": "magic"}, {"layers": "mlp=colour:red"}, {"group": "7"}, {"quant": "<b>"}])
def test_other_nonsense_is_a_plain_sentence(change: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must"):
        ask_from(Controls(sparsity=50, bits="4")._replace(**change))
