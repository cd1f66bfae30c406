"""Floating-point operations of one token, against torch's own counter."""

import pytest

from explorer.bench.numbers import torch_counts
from explorer.layers.targets import Target, targets
from explorer.measure.cost import flops_per_token, roofline
from explorer.model.compressing import compress
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe

BEHIND = 9  # tokens before the one that is counted


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(keep=0.6), Recipe(bits=4, sparsity=0.5)], ids=str)
def test_products_with_weights_are_what_torch_counts(any_model: Loaded, recipe: Recipe) -> None:
    calculated = flops_per_token(targets(any_model.model), recipe).flops_per_token.value
    assert calculated == torch_counts(compress(any_model.model, recipe, Facts()), BEHIND)["weights"]


def test_turning_the_hidden_states_is_counted(llama: Loaded) -> None:
    recipe = Recipe(bits=4, quant="rtn", rotate=True)
    calculated = flops_per_token(targets(llama.model), recipe).flops_per_token.value
    assert calculated == torch_counts(compress(llama.model, recipe, Facts()), BEHIND)["weights"]


def test_attention_is_what_torch_counts_beside_them(any_model: Loaded) -> None:
    """A token attends to itself too: torch counts one more than the tokens behind it."""
    config = any_model.model.config
    width = config.num_hidden_layers * config.hidden_size
    calculated = flops_per_token([], Recipe(), attention_width=width, context=BEHIND + 1).flops_per_token.value
    assert calculated == torch_counts(any_model.model, BEHIND)["among_tokens"]


def test_zeros_are_executed_but_not_useful(llama: Loaded) -> None:
    found = targets(llama.model)
    plain, sparse = flops_per_token(found, Recipe()), flops_per_token(found, Recipe(sparsity=0.5))
    assert sparse.flops_per_token.value == plain.flops_per_token.value == plain.useful_flops_per_token.value
    assert sparse.useful_flops_per_token.value < plain.useful_flops_per_token.value


def test_factors_save_operations_and_bits_do_not(llama: Loaded) -> None:
    found = targets(llama.model)
    plain = flops_per_token(found, Recipe()).flops_per_token.value
    assert flops_per_token(found, Recipe(keep=0.5)).flops_per_token.value < plain
    assert flops_per_token(found, Recipe(bits=2, head_bits=2)).flops_per_token.value == plain


def test_an_embedding_is_a_lookup_and_a_tied_head_a_product() -> None:
    embedding = Target(name="e", kind="embedding", shape=(100, 8))
    head = Target(name="h", kind="head", shape=(100, 8), tied_to="e")
    assert flops_per_token([embedding, head], Recipe()).flops_per_token.value == 2 * 100 * 8


def test_the_roofline_is_bytes_over_bandwidth() -> None:
    def of(value: float, unit: str) -> Reading:
        return Reading(value=value, unit=unit, how="measured")

    found = roofline(6e9, 2e9, of(4e9, "bytes/s"), of(8e3, "ms"))
    assert (found.bytes_per_token.value, found.floor_ms.value, found.share.value) == (8e9, 2e3, 0.25)
    assert (found.floor_ms.unit, found.share.unit, found.share.how) == ("ms", "share", "calculated")
