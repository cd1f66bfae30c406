"""100 changes leave no model behind: nothing that outlives a variant holds it."""

import gc
import sys
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import psutil
import pytest
from torch import nn

from explorer.model.facts import release
from explorer.values.prompt import Prompt
from explorer.values.recipe import Recipe
from explorer.workbench.variants import KEPT
from explorer.workbench.workbench import Workbench


def changes(rounds: int) -> Iterator[Recipe]:
    """Ten kinds of settings a round, none of them asked for twice where the ranges are wide enough."""
    for i in range(rounds):
        share = (5 + 5 * (i % 17)) / 100
        for bits in (2, 3, 4, 5, 6, 8):
            yield Recipe(bits=bits, sparsity=share, head_bits=(16, 8, 4)[i % 3])
        yield Recipe(sparsity=share)
        yield Recipe(keep=1 - share * 0.8, bits=4)
        yield Recipe(depth=0.5, bits=(3, 4, 8)[i % 3])
        yield Recipe(width=0.25, heads=0.5, sparsity=share)


def visit(bench: Workbench, recipe: Recipe) -> nn.Module:
    """All that the page does with a setting."""
    variant = bench.variant(recipe)
    list(bench.write(recipe, Prompt(text="the cat", new_tokens=3)))
    for quality in bench.evaluate(recipe, 20):
        bench.record(variant, quality=quality)
    list(bench.time(recipe, rounds=1, decode_steps=2, prompt_tokens=4))
    return variant.model


def test_a_hundred_changes_leave_no_model_and_no_memory(workbench: Workbench) -> None:
    live: WeakSet[nn.Module] = WeakSet()
    for recipe in changes(6):  # until every shape was compiled, and the allocator has its share
        live.add(visit(workbench, recipe))
    release()
    before = psutil.Process().memory_info().rss
    for recipe in changes(10):
        live.add(visit(workbench, recipe))
        assert len(live) <= KEPT + 1  # without waiting for a collection: the one at work, and those that are kept
    release()
    assert psutil.Process().memory_info().rss - before < 5e6


def caches() -> list[tuple[str, "WeakKeyDictionary[Any, Any]"]]:
    modules = [module for name, module in sys.modules.items() if name.startswith("explorer")]
    return [(k, v) for m in modules for k, v in vars(m).items() if isinstance(v, WeakKeyDictionary)]


def reaches(start: object, wanted: object) -> bool:
    """Whether `start` holds `wanted`, over whatever lies between, but for classes, functions' modules and frames."""
    seen, waiting = {id(start)}, [start]
    while waiting:
        for found in gc.get_referents(waiting.pop()):
            if found is wanted:
                return True
            if id(found) not in seen and not isinstance(found, type | type(sys)) and found is not wanted.__dict__:
                seen.add(id(found))
                if not (isinstance(found, dict) and "__builtins__" in found):
                    waiting.append(found)
    return False


def test_no_cache_holds_its_keys(workbench: Workbench) -> None:
    visit(workbench, Recipe(bits=4))
    filled = [(name, cache) for name, cache in caches() if cache]
    assert "_steps" in dict(filled)
    for name, cache in filled:
        for key, value in list(cache.items()):
            assert not reaches(value, key), name


def test_what_holds_its_key_is_found(workbench: Workbench) -> None:
    model = workbench.variant(Recipe(bits=4)).model
    assert reaches({"deep": [lambda: model]}, model)
    assert not reaches(model.get_submodule("model.norm"), model)


@pytest.mark.parametrize("rounds", [1, 3])
def test_changes_are_new_ones(rounds: int) -> None:
    assert len(set(changes(rounds))) >= 9 * rounds
