"""A pass over a text ends within one block, and leaves no trace."""

import pytest
import torch

from explorer.layers.targets import blocks_of
from explorer.model.interrupt import Interrupted, interruptible
from explorer.model.opening import Loaded
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench


@pytest.mark.parametrize("passed", [0, 1])
def test_it_ends_at_the_next_block(llama: Loaded, passed: int) -> None:
    seen: list[int] = []
    counted = [b.register_forward_pre_hook(lambda *_: seen.append(1)) for b in blocks_of(llama.model)[1]]
    with pytest.raises(Interrupted), interruptible(lambda: len(seen) > passed, llama.model):
        llama.model(torch.ones(1, 4, dtype=torch.long))
    assert len(seen) == passed + 1
    for hook in counted:
        hook.remove()
    llama.model(torch.ones(1, 4, dtype=torch.long))
    assert not any(block._forward_pre_hooks for block in blocks_of(llama.model)[1])


def test_what_was_judged_before_stays_and_nothing_half_is_kept(workbench: Workbench) -> None:
    recipe = Recipe(sparsity=0.5)
    first = next(workbench.evaluate(recipe, 1))
    assert list(workbench.evaluate(recipe, 10**6, lambda: True)) == []
    again = next(workbench.evaluate(recipe, 1))
    assert again == first
