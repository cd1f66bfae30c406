"""Each layer by itself: what it costs, how far off it is, and what it alone does to the predictions."""

import math

import pytest
import torch

from explorer.layers.targets import targets
from explorer.measure import layers
from explorer.measure.size import stored_bytes
from explorer.model.compressing import compress
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.matrices import LayerReading
from explorer.values.recipe import Recipe


def table(loaded: Loaded, recipe: Recipe, ids: torch.Tensor) -> list[LayerReading]:
    found, model = targets(loaded.model), compress(loaded.model, recipe, Facts())
    return list(layers.measure(loaded.model, model, found, {}, ids))[-1]


def test_every_compressed_matrix_has_one_row(llama: Loaded, ids: torch.Tensor) -> None:
    rows = table(llama, Recipe(bits=4, quant="rtn", head_bits=8), ids)
    assert [row.name for row in rows] == [t.name for t in targets(llama.model) if not t.tied_to]
    assert {row.bits for row in rows} == {4, 8}
    assert all(row.kl.value >= 0 and row.output_error.value > 0 for row in rows)


def test_bytes_of_the_rows_are_what_the_file_holds(llama: Loaded, ids: torch.Tensor) -> None:
    recipe = Recipe(bits=4, quant="rtn", head_bits=8, sparsity=0.5, prune="magnitude")
    model = compress(llama.model, recipe, Facts())
    inside = sum(row.file_bytes.value for row in table(llama, recipe, ids))
    norms = sum(p.numel() * p.element_size() for n, p in model.named_parameters() if "norm" in n)
    assert inside + norms == stored_bytes(model)


def test_zeros_rank_and_error_are_those_of_the_weights(llama32: Loaded, ids: torch.Tensor) -> None:
    half = table(llama32, Recipe(sparsity=0.5, prune="magnitude"), ids)
    assert all(row.zeros.value == pytest.approx(0.5, abs=0.01) and row.rank is None for row in half)
    thin = table(llama32, Recipe(keep=0.5, factorize="svd"), ids)
    assert all(row.rank and row.rank < min(row.shape) for row in thin)
    harder = table(llama32, Recipe(bits=2, quant="rtn"), ids)
    softer = table(llama32, Recipe(bits=8, quant="rtn"), ids)
    assert all(a.output_error.value > b.output_error.value for a, b in zip(harder, softer, strict=True))


def test_the_original_is_whole_again_after_every_swap(llama: Loaded, ids: torch.Tensor) -> None:
    with torch.inference_mode():
        before = llama.model(input_ids=ids).logits
        first = table(llama, Recipe(bits=2, quant="rtn"), ids)
        assert torch.equal(llama.model(input_ids=ids).logits, before)
    alone = table(llama, Recipe(bits=2, quant="rtn", protect=("model.layers.1",)), ids)
    same = {row.name: row.kl.value for row in first}
    assert all(math.isclose(row.kl.value, same[row.name], rel_tol=1e-6) for row in alone)


def test_a_row_is_plain_json(llama: Loaded, ids: torch.Tensor) -> None:
    row = table(llama, Recipe(bits=3, quant="rtn"), ids)[0].to_dict()
    assert set(row) == {
        "name", "kind", "shape", "rank", "bits", "zeros", "kept", "file_bytes", "output_error", "kl"
    }  # fmt: skip
