"""Predicted bytes = stored bytes = bytes in a file, for every recipe."""

from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from explorer.bench import every_recipe
from explorer.layers import storage
from explorer.layers.linear import CompressedLinear
from explorer.layers.storage import Spec, encode, tensors_of
from explorer.layers.targets import targets
from explorer.measure import size
from explorer.model.compress import Built, build, compress, settle
from explorer.model.facts import Facts
from explorer.model.hub import Loaded
from explorer.recipe import Recipe
from explorer.variants import Variants

ALL = list(every_recipe()) + [
    Recipe(bits=bits, sparsity=sparsity, keep=keep, group=group)
    for bits in (8, 3) for sparsity in (0.0, 0.9) for keep in (1.0, 0.2) for group in ("0", "32")
]  # fmt: skip


def test_there_are_enough_recipes_to_call_it_a_law() -> None:
    assert len(set(every_recipe())) >= 60


def test_what_is_predicted_is_what_is_stored_and_what_is_in_the_file(any_model: Loaded) -> None:
    facts, predictor = Facts(), size.Predictor(any_model.model, targets(any_model.model))
    for recipe in ALL:
        model = compress(any_model.model, recipe, facts)
        predicted = predictor.predict(recipe)
        assert predicted.parameters.value == size.kept_parameters(model), recipe
        file = save({name: tensor.contiguous() for name, tensor in tensors_of(model).items()})
        header = 8 + int.from_bytes(file[:8], "little")
        assert predicted.file_bytes.value == size.stored_bytes(model) == len(file) - header, recipe


def test_predicted_stored_and_exported_are_one_number_for_every_method(
    any_model: Loaded, facts_of: Callable[[torch.nn.Module], Facts], everything: list[Recipe], tmp_path: Path
) -> None:
    """With the budget as it was shared out, where there is one for the whole model."""
    facts, counted = facts_of(any_model.model), 0
    variants = Variants(any_model.model, facts, tmp_path)
    assert len(everything) >= 60
    for recipe in everything:
        if recipe.heads and any_model.model.config.model_type != "llama":
            continue  # the others cannot lose heads
        built = finished(build(any_model.model, recipe, facts))
        predicted = variants.predictor(recipe).predict(recipe, built.allotted)
        file = save({name: tensor.contiguous() for name, tensor in tensors_of(built.model).items()})
        stored = size.stored_bytes(built.model)
        assert predicted.file_bytes.value == stored == len(file) - 8 - int.from_bytes(file[:8], "little"), recipe
        assert predicted.parameters.value == size.kept_parameters(built.model), recipe
        assert sum(predicted.parts.values()) == predicted.file_bytes.value and min(predicted.parts.values()) >= 0
        assert predicted.compression_ratio.value == size.stored_bytes(any_model.model) / stored
        counted += stored < size.stored_bytes(any_model.model)
    assert counted > 50  # residuals may cost more than they save on matrices as small as these


def finished(steps: Generator[float, None, Built]) -> Built:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_the_original_counts_each_shared_tensor_once(llama: Loaded, gpt2: Loaded) -> None:
    for loaded in (llama, gpt2):
        once = sum(parameter.numel() for parameter in loaded.model.parameters())
        assert size.kept_parameters(loaded.model) == once == loaded.model.num_parameters()
        assert size.stored_bytes(loaded.model) == once * loaded.model.dtype.itemsize


def test_the_empty_recipe_is_as_large_as_the_original(any_model: Loaded) -> None:
    found = size.Predictor(any_model.model, targets(any_model.model)).predict(Recipe())
    assert found.file_bytes.value == size.stored_bytes(any_model.model)
    assert found.compression_ratio.value == 1


def test_the_parts_are_the_whole(any_model: Loaded) -> None:
    predictor = size.Predictor(any_model.model, targets(any_model.model))
    for recipe in ALL:
        found = predictor.predict(recipe)
        assert sum(found.parts.values()) == found.file_bytes.value and min(found.parts.values()) >= 0
        assert found.compression_ratio.value == predictor.original / found.file_bytes.value


def test_what_is_left_over_is_the_same_for_every_recipe(any_model: Loaded) -> None:
    predictor = size.Predictor(any_model.model, targets(any_model.model))
    assert len({predictor.predict(recipe).parts["rest"] for recipe in ALL}) == 1


def test_half_the_zeros_keep_half_the_weights(llama: Loaded) -> None:
    predictor = size.Predictor(llama.model, targets(llama.model))
    inside = sum(t.shape[0] * t.shape[1] for t in targets(llama.model) if t.kind in ("attention", "mlp"))
    lost = predictor.predict(Recipe()).parameters.value - predictor.predict(Recipe(sparsity=0.5)).parameters.value
    assert lost == inside / 2


def test_a_settled_model_in_memory_is_counted_as_it_is(llama: Loaded) -> None:
    plain = size.resident_bytes(llama.model)
    decoded = size.resident_bytes(settle(compress(llama.model, Recipe(bits=6), Facts())))
    packed = size.resident_bytes(settle(compress(llama.model, Recipe(bits=4), Facts())))
    assert packed < decoded == plain


def test_a_prediction_says_that_it_is_calculated_and_a_count_that_it_is_measured() -> None:
    assert size.footprint(1, 1, 1, 1, "calculated", {}).file_bytes.how == "calculated"
    measured = size.footprint(1, 1, 1, 1, "measured", {}, resident=5)
    assert measured.file_bytes.how == "measured" and measured.predicted_bytes.how == "calculated"
    assert measured.resident_bytes is not None and measured.resident_bytes.how == "measured"


def test_equal_shapes_in_different_memory_are_both_counted() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False))
    assert size.stored_bytes(model) == 2 * 16 * 4
    model[1].weight = model[0].weight
    assert size.stored_bytes(model) == 16 * 4


@pytest.mark.parametrize(
    "softer, harder",
    [
        (Recipe(), Recipe(bits=8)),
        (Recipe(bits=8), Recipe(bits=4)),
        (Recipe(sparsity=0.5), Recipe(sparsity=0.9)),
        (Recipe(keep=0.8), Recipe(keep=0.4)),
        (Recipe(bits=4), Recipe(bits=4, head_bits=4)),
    ],
)
def test_a_harder_setting_is_smaller(any_model: Loaded, softer: Recipe, harder: Recipe) -> None:
    predictor = size.Predictor(any_model.model, targets(any_model.model))
    assert predictor.predict(harder).file_bytes.value < predictor.predict(softer).file_bytes.value


@pytest.mark.parametrize(
    "format, double", [("nf4", False), ("nf4", True), ("fp4", False), ("fp4", True), ("int8", False)]
)
def test_what_bitsandbytes_stores_is_counted_and_saved_as_foretold(format: str, double: bool) -> None:
    spec, shapes = Spec(format=format, double=double), [(40, 64), (40, 64), (3, 100)]
    model = torch.nn.Sequential(*(CompressedLinear([[encode(torch.randn(shape), spec)]], None) for shape in shapes))
    foretold = sum(storage.stored_bytes(shape, spec, 4) for shape in shapes)
    file = save({name: tensor.contiguous() for name, tensor in tensors_of(model).items()})
    assert foretold == size.stored_bytes(model) == len(file) - 8 - int.from_bytes(file[:8], "little")
    assert size.kept_parameters(model) == sum(rows * columns for rows, columns in shapes)
