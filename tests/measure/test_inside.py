"""Inside one matrix: counts that add up, levels that weights really have, singular values that are torch's."""

import pytest
import torch

from explorer.studies.tracing import inside, names
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench


def test_every_weight_is_counted_once_on_both_sides(workbench: Workbench) -> None:
    for name in names(workbench):
        found = inside(workbench, Recipe(bits=4, head_bits=4, quant="rtn"), name)
        weight = workbench.loaded.model.get_submodule(name).weight
        assert sum(found.before) == sum(found.after) == weight.numel()


def test_levels_are_what_a_group_s_weights_can_be(workbench: Workbench) -> None:
    recipe, name = Recipe(bits=3, quant="rtn"), names(workbench)[1]
    found = inside(workbench, recipe, name)
    layer = workbench.variants.unsettled(recipe).model.get_submodule(name)
    group = layer.decoded()[0, : layer.branches[0][0].group]
    levels = torch.tensor(found.levels)
    assert len(levels) == 8
    assert ((group[:, None] - levels).abs().amin(1) <= 0.01 * group.abs().max()).all()
    assert inside(workbench, Recipe(bits=8), name).levels == ()


def test_the_spectrum_is_torch_s_and_the_cut_is_the_rank(workbench: Workbench) -> None:
    recipe, name = Recipe(keep=0.5, factorize="svd"), names(workbench)[1]
    found = inside(workbench, recipe, name)
    values = torch.linalg.svdvals(workbench.loaded.model.get_submodule(name).weight.float())
    assert found.spectrum == pytest.approx((values / values[0]).tolist(), rel=1e-4, abs=1e-6)
    assert found.ranks == tuple(range(1, len(values) + 1))
    layer = workbench.variants.unsettled(recipe).model.get_submodule(name)
    assert found.cut == layer.branches[0][0].shape[1] and inside(workbench, Recipe(bits=4), name).cut is None


def test_half_zeros_stand_in_the_middle(workbench: Workbench) -> None:
    found = inside(workbench, Recipe(sparsity=0.5, prune="magnitude"), names(workbench)[1])
    assert found.after[len(found.after) // 2] >= sum(found.after) // 2 > found.before[len(found.before) // 2]


def test_what_cannot_be_compared_is_said(workbench: Workbench) -> None:
    for recipe, name in ((Recipe(), "nothing"), (Recipe(depth=0.5), names(workbench)[1]), (Recipe(), "")):
        with pytest.raises(ValueError, match="matri"):
            inside(workbench, recipe, name)
