"""A setting taken apart, and put together again."""

from explorer.values.recipe import Recipe
from explorer.workbench.techniques import apart, in_turn


def test_techniques_are_told_apart_and_each_keeps_its_own_words() -> None:
    whole = Recipe(sparsity=0.5, prune="ria", bits=4, group="32", head_bits=6, depth=0.1, protect=("last",))
    alone = apart(whole)
    assert alone == {
        "depth": Recipe(depth=0.1, protect=("last",)),
        "pruning": Recipe(sparsity=0.5, prune="ria", protect=("last",)),
        "bits": Recipe(bits=4, group="32", protect=("last",)),
        "head bits": Recipe(head_bits=6, group="32", protect=("last",)),
    }
    mixed = apart(Recipe(sparsity=0.5, layers=("mlp=bits:4,sparsity:0.2",)))
    assert mixed["pruning"] == Recipe(sparsity=0.5, layers=("mlp=sparsity:0.2",))
    assert mixed["bits"] == Recipe(layers=("mlp=bits:4",))
    assert apart(Recipe(bits=4)) == {} == apart(Recipe())


def test_techniques_in_turn_end_at_the_whole_setting() -> None:
    whole = Recipe(sparsity=0.5, bits=4, group="32", head_bits=6, residual_rank=4, layers=("mlp=bits:3,sparsity:0.2",))
    steps = in_turn(whole)
    assert list(steps) == ["pruning", "bits", "head bits"] and steps["head bits"] == whole
    assert steps["pruning"] == Recipe(sparsity=0.5, layers=("mlp=sparsity:0.2",))
    both = steps["bits"]
    assert (both.sparsity, both.bits, both.head_bits, both.residual_rank) == (0.5, 4, 16, 0)
    assert both.layers == ("mlp=sparsity:0.2,bits:3",)
    assert in_turn(Recipe(bits=4)) == {} == in_turn(Recipe())
