"""What bitsandbytes stores, opened by transformers and the library."""

from pathlib import Path

import pytest
from torch import Tensor

from explorer.formats.blockwise_folder import blockwise_folder
from explorer.formats.leaves import structure_of
from explorer.model.compressing import compress
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.recipe import Recipe
from tests.formats.conftest import logits, opened, written


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
