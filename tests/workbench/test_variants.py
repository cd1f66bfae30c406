"""Models made from one base: foretold, built in steps, kept, and equal to a fresh one."""

import copy
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from explorer.measure import size
from explorer.model import kept, teach
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.model.teach import Lessons
from explorer.values.recipe import Recipe
from explorer.workbench.variants import CUTS_KEPT, KEPT, Variants
from explorer.workbench.workbench import Workbench

FactsOf = Callable[[nn.Module], Facts]
SLOW = Recipe(bits=3, quant="gptq", residual_rank=8)


@pytest.fixture
def variants(llama: Loaded, facts_of: FactsOf, tmp_path: Path) -> Variants:
    facts = copy.deepcopy(facts_of(llama.model))
    facts._kept.folder = tmp_path / "facts"
    facts.save()
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

    monkeypatch.setattr("explorer.workbench.variants.build", never)
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


def lessons_of(model: nn.Module) -> Generator[float, None, Lessons]:
    ids = torch.randint(2, 300, (8, 24), generator=torch.Generator().manual_seed(9))
    yield 1.0
    return teach.read(model, ids)


@pytest.fixture
def school(variants: Variants, llama: Loaded) -> Variants:
    variants._teach = lambda: lessons_of(llama.model)
    return variants


@pytest.mark.parametrize(
    "wound", [{"sparsity": 0.5}, {"bits": 3, "residual_rank": 8}, {"depth": 0.5}, {"width": 0.25, "keep": 0.6}]
)
def test_a_healed_variant_weighs_what_the_wounded_does_and_comes_back_from_disk(
    school: Variants, llama: Loaded, wound: dict[str, float]
) -> None:
    recipe, ids = Recipe(**wound, heal=6), torch.arange(2, 40)[None]  # type: ignore[arg-type]
    shares = list(school.apply(recipe))
    found, hurt = school.get(recipe), school.get(replace(recipe, heal=0))
    assert shares == pytest.approx(sorted(shares)) and shares[-1] == pytest.approx(1)
    assert found.size.file_bytes.value == hurt.size.file_bytes.value == school.predict(recipe).file_bytes.value
    curve = school.curves[recipe]
    assert [step.step for step in curve] == list(range(7))
    again = Variants(llama.model, school._facts, school._folder)  # without lessons: from disk, or not at all
    opened = again.get(recipe).model
    with torch.inference_mode():
        healed = opened(ids).logits
        assert torch.equal(healed, found.model(ids).logits) and not torch.equal(healed, hurt.model(ids).logits)
    assert [step.to_dict() for step in again.curves[recipe]] == [step.to_dict() for step in curve]
    assert size.stored_bytes(again.unsettled(recipe).model) == found.size.file_bytes.value


def test_healing_that_is_stopped_is_the_recipe_of_the_steps_that_were_done(school: Variants, llama: Loaded) -> None:
    recipe, ids = Recipe(bits=3, heal=200), torch.arange(2, 40)[None]
    list(school.apply(recipe, lambda: len(school.curves.get(recipe, ())) > 4))
    done = school.curves[recipe][-1].step
    assert 0 < done < 200 and recipe not in school._ready
    early = school._ready[replace(recipe, heal=done)]
    fresh = Variants(llama.model, school._facts, school._folder / "other", teach=lambda: lessons_of(llama.model))
    again = fresh.get(replace(recipe, heal=done)).model
    with torch.inference_mode():
        assert torch.equal(early.model(ids).logits, again(ids).logits)


def test_zeros_are_mended_before_the_first_step_and_a_stop_before_it_leaves_the_wounded(school: Variants) -> None:
    recipe, ids = Recipe(sparsity=0.5, heal=20), torch.arange(2, 40)[None]
    list(school.apply(recipe, lambda: True))
    assert list(school._ready) == [replace(recipe, heal=0)]
    wounded, healed = (school.get(replace(recipe, heal=steps)).model for steps in (0, 1))
    base = school._base.get_submodule("model.layers.0.mlp.up_proj").weight.float()  # type: ignore[operator]
    lost = [
        (model.get_submodule("model.layers.0.mlp.up_proj")(torch.eye(base.shape[1]).bfloat16()).T.float() - base)
        for model in (wounded, healed)
    ]
    gram = school._facts.gram("model.layers.0.mlp.up_proj")
    assert gram is not None
    errors = [float(((each @ gram) * each).sum()) for each in lost]
    assert errors[1] < 0.9 * errors[0]  # one step alone moves nothing so far
    with torch.inference_mode():
        assert not torch.equal(healed(ids).logits, wounded(ids).logits)


def test_closing_while_healing_publishes_nothing(school: Variants) -> None:
    recipe = Recipe(bits=3, heal=200)
    steps = school.apply(recipe)
    while not school.curves.get(recipe):
        next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert not school._ready and not (school._folder.exists() and list(school._folder.iterdir()))


def test_the_control_run_is_another_model_and_is_not_published(school: Variants) -> None:
    recipe = Recipe(sparsity=0.5, heal=6)
    *_, control = school.control(recipe)
    assert recipe not in school._ready and recipe not in school.curves
    one, other = control.model.state_dict(), school.unsettled(recipe).model.state_dict()  # type: ignore[union-attr]
    assert one.keys() == other.keys() and not all(torch.equal(one[name], other[name]) for name in one)


def test_without_lessons_nothing_is_healed(variants: Variants) -> None:
    with pytest.raises(ValueError, match="heal"):
        variants.get(Recipe(bits=4, quant="rtn", heal=5))


def test_what_better_facts_change_is_forgotten(variants: Variants) -> None:
    free, needy = Recipe(bits=4, quant="rtn"), Recipe(bits=4)
    kept, gone = variants.get(free), variants.get(needy)
    variants.forget()
    assert variants.get(free) is kept and variants.get(needy) is not gone


def test_a_variant_is_known_once_it_is_made(workbench: Workbench) -> None:
    quick, slow = Recipe(bits=4), Recipe(bits=4, quant="gptq")
    for recipe in (quick, slow):
        assert not workbench.variants.known(recipe)
        list(workbench.apply(recipe))
        assert workbench.variants.known(recipe)
    workbench.variants.forget()
    assert workbench.variants.known(slow) and not workbench.variants.known(quick)  # on disk


def test_shapes_of_the_last_cuts_are_kept_and_the_originals_always(variants: Variants) -> None:
    whole = variants.predictor(Recipe())
    for step in range(1, CUTS_KEPT + 9):
        last = variants.predictor(Recipe(width=step / 100))
    assert variants.predictor(Recipe(width=(CUTS_KEPT + 8) / 100)) is last
    assert variants.predictor(Recipe()) is whole and len(variants._predictors) <= CUTS_KEPT


def test_what_cannot_be_kept_is_there_all_the_same_and_says_so(
    variants: Variants, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("the cache cannot be written: No space left on device.")

    monkeypatch.setattr(kept, "save_tensors", full)
    variant = variants.get(SLOW)
    assert any("No space left on device" in note for note in variant.size.notes)
    assert variants.get(SLOW) is variant and not list(variants._folder.glob("*.safetensors"))
