"""What is told of each format before anything is made."""

from pathlib import Path

import pytest

from explorer.formats.catalogue import FORMATS, formats, proposed
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench


def test_every_format_is_told_or_says_why_not(unprepared: Workbench) -> None:
    offers = formats(unprepared, Recipe(bits=4, quant="rtn"))
    assert [offer.format for offer in offers] == [*FORMATS]
    assert [bool(offer.problem) for offer in offers] == [False] * 4 + [True]
    for offer in offers:
        assert offer.opened_by and (offer.problem or (offer.keeps and offer.bytes and offer.bytes.how == "calculated"))
    said = {offer.format: f"{offer.keeps}; {offer.rounds}" for offer in offers}
    assert "4-bit codes as Q4_1 (14 matrices)" in said["gguf"] and "half precision" in said["gguf"]
    assert "14 matrices decoded" in said["transformers"]


@pytest.mark.parametrize(
    "recipe, words",
    [
        (Recipe(bits=3, quant="rtn"), "14 matrices of 3 bits take Q4_1's 4"),
        (Recipe(bits=8, quant="rtn"), "14 matrices of 8 bits rounded anew in blocks of 32"),
        (Recipe(sparsity=0.5, prune="magnitude"), "14 matrices with zeros written out, which saves nothing"),
        (Recipe(keep=0.5, factorize="svd"), "14 matrices multiplied out in half precision, which saves nothing"),
        (Recipe(quant="nf4"), "14 matrices decoded"),
        (Recipe(quant="int8"), "scales of 14 matrices in half precision"),
    ],
    ids=lambda value: value.words() if isinstance(value, Recipe) else "",
)
def test_what_gguf_rounds_or_expands_is_counted(unprepared: Workbench, recipe: Recipe, words: str) -> None:
    assert words in {offer.format: offer.rounds for offer in formats(unprepared, recipe)}["gguf"]


def test_a_family_that_llama_cpp_lacks_is_told_as_such(folders: dict[str, Path]) -> None:
    bench = Workbench(str(folders["neox"]), texts={"a": ["the cat sat on the mat"]}).load()
    offers = {offer.format: offer for offer in formats(bench, Recipe(bits=4, quant="rtn"))}
    assert "gpt_neox" in offers["gguf"].problem and not offers["transformers"].problem


def test_a_name_says_what_it_is(unprepared: Workbench) -> None:
    recipe = Recipe(bits=4, quant="gptq", head_bits=8, sparsity=0.5, depth=0.2)
    assert proposed(unprepared, recipe, 73.2) == "llama-depth20-zeros50-wanda-4bit-gptq-head8-73MB"
    unprepared.name = "some/" + "x" * 90
    assert len(proposed(unprepared, recipe, 73.2)) == 64
