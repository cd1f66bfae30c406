"""Models made from one base: foretold, built in steps, kept, and equal to a fresh one."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from explorer.model.facts import Facts
from explorer.model.hub import Loaded
from explorer.recipe import Recipe
from explorer.variants import KEPT, Variants

FactsOf = Callable[[nn.Module], Facts]
SLOW = Recipe(bits=3, quant="gptq", residual_rank=8)


@pytest.fixture
def variants(llama: Loaded, facts_of: FactsOf, tmp_path: Path) -> Variants:
    facts = copy.deepcopy(facts_of(llama.model))
    facts.save(tmp_path / "facts")
    return Variants(llama.model, facts, tmp_path / "variants")


def test_a_prediction_is_what_a_variant_weighs(variants: Variants, everything: list[Recipe]) -> None:
    for recipe in everything:
        size = variants.get(recipe).size
        predicted = variants.predict(recipe)  # a global budget is shared out by now
        assert size.file_bytes.value == size.predicted_bytes.value == predicted.file_bytes.value, recipe
        assert size.parameters.value == predicted.parameters.value and size.parts == predicted.parts, recipe


def test_predictions_of_smaller_shapes_are_exact_before_anything_is_built(variants: Variants) -> None:
    cuts = [{"depth": 0.5}, {"width": 0.25}, {"width": 0.25, "width_by": "flap"}, {"heads": 0.5}]
    for cut in cuts:
        for more in ({}, {"bits": 4}, {"head_bits": 4}, {"bits": 8, "head_bits": 8, "sparsity": 0.5}):
            recipe = Recipe(**cut, **more)  # type: ignore[arg-type]
            before = variants.predict(recipe).file_bytes.value
            assert before == variants.get(recipe).size.file_bytes.value < variants.predict(Recipe()).file_bytes.value


def test_a_slow_variant_is_kept_on_disk_and_a_fast_one_is_not(
    variants: Variants, llama: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = torch.arange(2, 40)[None]
    list(variants.apply(Recipe(bits=4)))
    assert not (tmp_path / "variants").exists()
    shares = list(variants.apply(SLOW))
    assert shares == sorted(shares) and list(variants.apply(SLOW)) == []
    assert len(list((tmp_path / "variants").iterdir())) == 1
    first = variants.get(SLOW)

    def never(*_: object) -> Iterator[float]:
        pytest.fail("worked out again")
        yield 0.0

    monkeypatch.setattr("explorer.variants.build", never)
    again = Variants(llama.model, variants._facts, tmp_path / "variants")
    assert list(again.apply(SLOW)) == []
    found = again.get(SLOW)
    with torch.inference_mode():
        assert torch.equal(found.model(ids).logits, first.model(ids).logits)
    assert (found.size, found.kernel, found.allotted) == (first.size, first.kernel, first.allotted)
    assert again.unsettled(SLOW).allotted == first.allotted


def test_a_damaged_file_is_worked_out_again(variants: Variants, llama: Loaded, tmp_path: Path) -> None:
    first = variants.get(SLOW)
    (file,) = (tmp_path / "variants").iterdir()
    file.write_bytes(b"damaged")
    again = Variants(llama.model, variants._facts, tmp_path / "variants")
    assert len(list(again.apply(SLOW))) > 1 and again.get(SLOW).size == first.size


def test_few_are_in_memory_and_a_stop_leaves_nothing(variants: Variants) -> None:
    for bits in (8, 6, 5, 4, 3):
        variants.get(Recipe(bits=bits))
    assert len(variants._ready) == KEPT
    next(iter(variants.apply(SLOW)))
    assert SLOW not in variants._ready


def test_what_better_facts_change_is_forgotten(variants: Variants) -> None:
    free, needy = Recipe(bits=4, quant="rtn"), Recipe(bits=4)
    kept, gone = variants.get(free), variants.get(needy)
    variants.forget()
    assert variants.get(free) is kept and variants.get(needy) is not gone
