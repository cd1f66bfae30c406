"""Folders of each kind, opened by transformers and the packages that they are for: equal logits."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from explorer.formats.folders import plain_folder
from explorer.formats.leaves import structure_of
from explorer.layers.dense import replace_linear_layers
from explorer.model.compressing import compress
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.recipe import Recipe
from tests.formats.conftest import logits, opened, written


@pytest.mark.parametrize(
    "recipe",
    [Recipe(), Recipe(bits=4, quant="rtn", head_bits=5), Recipe(bits=8, quant="rtn"), Recipe(quant="nf4")]
    + [Recipe(sparsity=0.5, prune="magnitude", bits=3, quant="rtn")],
    ids=Recipe.words,
)
def test_plain_tensors_give_equal_logits(any_model: Loaded, recipe: Recipe, tmp_path: Path, ids: Tensor) -> None:
    model = compress(any_model.model, recipe, Facts())
    made = plain_folder(structure_of(model, any_model.model))
    again = replace_linear_layers(opened(written(made, model, any_model, tmp_path / "out")))
    assert torch.equal(logits(again, ids), logits(model, ids))


@pytest.mark.parametrize("family", ["qwen3moe", "gemma3", "mamba", "phi3"])
def test_families_of_all_kinds_open_again(
    tiny_of: Callable[..., Loaded], family: str, tmp_path: Path, ids: Tensor
) -> None:
    loaded = tiny_of(family)
    model = compress(loaded.model, Recipe(bits=4, quant="rtn"), Facts())
    again = opened(written(plain_folder(structure_of(model, loaded.model)), model, loaded, tmp_path / "out"))
    right = logits(model, ids)
    assert (logits(again, ids) - right).abs().max() < 1e-4 * right.abs().max()


def test_what_is_rotated_or_factorized_is_multiplied_out(llama32: Loaded, tmp_path: Path, ids: Tensor) -> None:
    """The head is no longer the embedding."""
    for place, recipe in enumerate([Recipe(bits=6, quant="rtn", rotate=True), Recipe(keep=0.6, factorize="svd")]):
        model = compress(llama32.model, recipe, Facts())
        structure = structure_of(model, llama32.model)
        again = opened(written(plain_folder(structure), model, llama32, tmp_path / f"out{place}"))
        assert structure.tied == again.config.tie_word_embeddings == (not recipe.rotate)
        right = logits(model, ids)
        assert (logits(again, ids) - right).abs().max() < 1e-3 * right.abs().max()
