"""compressed-tensors' folders, opened by transformers and by the package itself."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor

from explorer.formats import checking
from explorer.formats.leaves import structure_of
from explorer.formats.packed_folder import packed_folder, words_of
from explorer.measure.quality import Passage
from explorer.model.compressing import compress
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.recipe import Recipe
from tests.formats.conftest import logits, written

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


@pytest.mark.parametrize("bits", [4, 8])
def test_words_hold_the_first_code_in_the_lowest_bits(bits: int) -> None:
    codes = torch.randint(0, 2**bits, (3, 19), dtype=torch.uint8)
    words = words_of(codes, bits).long() & 0xFFFFFFFF
    assert words.shape == (3, -(-19 * bits // 32))
    each = [(words[:, place * bits // 32] >> place * bits % 32) & (2**bits - 1) for place in range(19)]
    assert torch.equal(torch.stack(each, dim=1), codes.long())
