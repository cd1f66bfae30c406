"""Folders of each kind, opened by transformers and the packages that they are for: equal logits."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from explorer.formats import checking
from explorer.formats.blockwise_folder import blockwise_folder
from explorer.formats.folders import WEIGHTS, Folder, plain_folder
from explorer.formats.leaves import structure_of
from explorer.formats.packed_folder import packed_folder
from explorer.layers.dense import replace_linear_layers
from explorer.measure.quality import Passage
from explorer.model.compressing import compress
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.recipe import Recipe


def written(made: Folder, model: nn.Module, loaded: Loaded, folder: Path) -> Path:
    folder.mkdir()
    assert list(made.write(folder, model, loaded.tokenizer))[-1] == 1
    assert (folder / WEIGHTS).stat().st_size == made.bytes
    return folder


def opened(folder: Path) -> Any:
    model, told = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, dtype="auto")
    assert not any(told.values()), told
    return model.eval()


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits  # type: ignore[no-any-return]


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


PACKED = [
    Recipe(bits=4, quant="rtn"),
    Recipe(bits=8, quant="rtn"),
    Recipe(bits=3, quant="rtn", group="32", head_bits=4),
]
PACKED += [Recipe(bits=4, quant="rtn", layers=("mlp=bits:6,group:0",), protect=("last",))]


@pytest.mark.skipif(find_spec("compressed_tensors") is None, reason="needs compressed-tensors")
@pytest.mark.parametrize("recipe", PACKED, ids=Recipe.words)
def test_packed_codes_give_equal_logits(llama: Loaded, recipe: Recipe, tmp_path: Path, ids: Tensor) -> None:
    model = compress(llama.model, recipe, Facts())
    made = packed_folder(structure_of(model, llama.model), model)
    folder = written(made, model, llama, tmp_path / "out")
    passages = [Passage(kind="x", ids=ids)]
    found = checking.by_compressed_tensors(folder, checking.right_of(model, passages))
    right = logits(model, ids)[:, :-1]
    assert (found.logits[0] - right).abs().max() <= 0.01 * right.abs().max()
    assert bool(found.notes) == bool(recipe.layers)  # of several widths
    names = {piece.name for piece in made.pieces}
    assert "model.layers.0.mlp.up_proj.weight_packed" in names and "model.embed_tokens.weight" in names
    assert ("model.layers.1.mlp.up_proj" in made.quantization["ignore"]) == bool(recipe.protect)  # type: ignore[index]


@pytest.mark.parametrize(
    "recipe", [Recipe(), Recipe(sparsity=0.5, prune="magnitude"), Recipe(quant="nf4")], ids=Recipe.words
)
def test_compressed_tensors_is_refused_where_there_are_no_codes(llama: Loaded, recipe: Recipe) -> None:
    model = compress(llama.model, recipe, Facts())
    with pytest.raises(ValueError, match="no layer of this setting"):
        packed_folder(structure_of(model, llama.model), model)


@pytest.mark.parametrize("recipe", [Recipe(quant="nf4"), Recipe(quant="fp4", double=True)], ids=Recipe.words)
def test_blocks_of_bitsandbytes_give_equal_logits(llama: Loaded, recipe: Recipe, tmp_path: Path, ids: Tensor) -> None:
    model = compress(llama.model, recipe, Facts())
    again = opened(written(blockwise_folder(structure_of(model, llama.model), model), model, llama, tmp_path / "out"))
    assert (logits(again, ids) - logits(model, ids)).abs().max() <= 0.05 * logits(model, ids).abs().max()


def test_int8_is_opened_by_bitsandbytes(llama: Loaded, tmp_path: Path, ids: Tensor) -> None:
    """It rounds inputs to 8 bits too."""
    model = compress(llama.model, Recipe(quant="int8"), Facts())
    again = opened(written(blockwise_folder(structure_of(model, llama.model), model), model, llama, tmp_path / "out"))
    assert (logits(again, ids) - logits(model, ids)).abs().max() <= 0.2 * logits(model, ids).abs().max()


def test_bitsandbytes_is_refused_for_other_codes(llama: Loaded) -> None:
    model = compress(llama.model, Recipe(bits=4, quant="rtn"), Facts())
    with pytest.raises(ValueError, match="nf4, fp4 and int8 only"):
        blockwise_folder(structure_of(model, llama.model), model)
