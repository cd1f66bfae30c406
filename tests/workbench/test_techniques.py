"""A setting taken apart, and put together again."""

from explorer.values.recipe import Recipe
from explorer.workbench.techniques import apart


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
