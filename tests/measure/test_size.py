"""Predicted bytes = stored bytes = bytes in a file, for every recipe."""

import copy
import math
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from explorer.bench.speed import every_recipe
from explorer.layers import storage
from explorer.layers.linear import CompressedLinear
from explorer.layers.storage import BitsAndBytes, Quantized, Spec, encode, tensors_of
from explorer.layers.targets import targets
from explorer.measure import size
from explorer.model import opening
from explorer.model.compressing import Built, build, compress, settle
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.recipe import Recipe
from explorer.workbench.variants import Variants

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
    decoded = size.resident_bytes(settle(compress(llama.model, Recipe(sparsity=0.5, prune="magnitude"), Facts())))
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


def test_the_broken_down_file_adds_up_to_its_bytes_for_every_recipe(any_model: Loaded) -> None:
    found, facts = targets(any_model.model), Facts()
    for recipe in ALL[:12] + ALL[-20:]:
        model = compress(any_model.model, recipe, facts)
        counts = size.parts(model, found)
        assert sum(counts.values()) == size.stored_bytes(model), recipe
        formats = (Quantized, BitsAndBytes)
        assert ("scales" in counts) == any(isinstance(module, formats) for module in model.modules()), recipe
        assert ("masks" in counts) == bool(recipe.sparsity), recipe


def test_parts_by_hand(llama: Loaded) -> None:
    found = targets(llama.model)
    plain = size.parts(llama.model, found)
    assert plain["embedding"] == 300 * 64 * 2 and "head" not in plain  # tied
    assert plain["mlp"] == 2 * 3 * 64 * 128 * 2 and plain["norms"] == (2 * 2 + 1) * 64 * 2
    half = size.parts(compress(llama.model, Recipe(sparsity=0.5, bits=4, group="64", quant="rtn"), Facts()), found)
    assert half["masks"] == 2 * (3 * 64 * 128 + 2 * 64 * 64 + 2 * 32 * 64) / 8
    assert half["mlp"] == plain["mlp"] / 2 / 4 and half["norms"] == plain["norms"]


def test_an_untied_head_and_biases_are_parts_too(gpt2: Loaded, folders: dict[str, Path]) -> None:
    neox = opening.load(str(folders["neox"])).model
    assert size.parts(neox, targets(neox))["head"] == 300 * 64 * 4
    biases = sum(p.numel() for n, p in gpt2.model.named_parameters() if n.endswith("bias") and "ln" not in n)
    matrices = sum(t.shape[0] * t.shape[1] for t in targets(gpt2.model) if t.kind in ("attention", "mlp"))
    counts = size.parts(gpt2.model, targets(gpt2.model))
    assert counts["attention"] + counts["mlp"] == (matrices + biases) * gpt2.model.dtype.itemsize


def test_entropy_of_codes_and_masks_that_are_known() -> None:
    weight = torch.tensor([[0.0, 1.0, 2.0, 3.0] * 16] * 4)
    even = torch.nn.Sequential(CompressedLinear([[encode(weight, Spec(bits=2, group=0))]], None))
    assert size.entropy_bytes(even) == size.stored_bytes(even)  # four codes, equally often: nothing to gain
    one = torch.tensor([[0.0] * 60 + [1.0] * 4] * 4)
    rare = torch.nn.Sequential(CompressedLinear([[encode(one, Spec(bits=2, group=0))]], None))
    share = 1 / 16
    bits = -256 * (share * math.log2(share) + (1 - share) * math.log2(1 - share))
    assert size.entropy_bytes(rare) == pytest.approx(size.stored_bytes(rare) - 64 + bits / 8)
    mask = torch.zeros(4, 64, dtype=torch.bool)
    mask[:, :4] = True
    sparse = torch.nn.Sequential(CompressedLinear([[encode(weight, Spec(kept=4), mask)]], None))
    assert size.entropy_bytes(sparse) == pytest.approx(size.stored_bytes(sparse) - 32 + bits / 8)


@pytest.mark.parametrize("format", ["nf4", "int8"])
def test_entropy_of_what_bitsandbytes_stores_is_below_its_bytes(format: str) -> None:
    draws = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(
        CompressedLinear([[encode(torch.randn(64, 64, generator=draws), Spec(format=format))]], None)
    )
    saved = size.stored_bytes(model) - size.entropy_bytes(model)
    assert 0 < saved < 0.2 * size.stored_bytes(model)


def test_zip_gains_from_zeros_that_are_stored_like_numbers_and_little_from_noise(llama: Loaded) -> None:
    plain, stored = size.zip_bytes(llama.model), size.stored_bytes(llama.model)
    assert plain.how == "measured" and 0.6 * stored < plain.value < 1.01 * stored
    layer = torch.nn.Linear(64, 64, bias=False)
    torch.nn.init.zeros_(layer.weight)
    assert size.zip_bytes(layer).value < 100 < size.stored_bytes(layer)


def test_a_saving_that_is_not_there_has_its_reason(llama: Loaded) -> None:
    found, facts = targets(llama.model), Facts()
    assert size.why_not(compress(llama.model, Recipe(bits=4), facts), found) == []
    slight = size.why_not(compress(llama.model, Recipe(sparsity=0.05), facts), found)
    assert slight == ["mask, scales or residual cost more than they save (14 matrices)"]
    zeroed = copy.deepcopy(llama.model)
    torch.nn.init.zeros_(zeroed.model.layers[0].mlp.up_proj.weight)
    assert size.why_not(zeroed, found) == ["zeros are stored like any other number (1 matrix)"]
    grown = copy.deepcopy(llama.model)
    factors = [encode(torch.randn(128, 60).bfloat16(), Spec()), encode(torch.randn(60, 64).bfloat16(), Spec())]
    grown.model.layers[0].mlp.up_proj = CompressedLinear([factors], None)
    assert size.why_not(grown, found) == ["rank above break-even grows this layer (1 matrix)"]
    whole = size.breakdown(grown, found)
    assert whole.notes and sum(part.value for part in whole.parts.values()) == whole.file_bytes.value
    assert whole.entropy_bytes.how == "calculated" and whole.zip_bytes is None


def test_the_cache_is_as_large_as_the_one_that_transformers_fills(any_model: Loaded, ids: torch.Tensor) -> None:
    with torch.inference_mode():
        cache = any_model.model(input_ids=ids.expand(3, -1), use_cache=True).past_key_values
    held = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))
    found = size.kv_cache_bytes(any_model.model.config, 24, any_model.model.dtype.itemsize, batch=3)
    assert found.value == held and found.how == "calculated"


def test_a_sliding_window_bounds_the_cache_and_activations_grow_with_the_context(llama: Loaded) -> None:
    config = copy.deepcopy(llama.model.config)
    config.layer_types, config.sliding_window = ["sliding_attention", "full_attention"], 100
    assert size.kv_cache_bytes(config, 400).value == 2 * (100 + 400) * 2 * 16 * 2
    few, many = (size.activation_bytes(config, context) for context in (10, 1000))
    assert few.how == "estimated" and many.value - few.value == 990 * (2 * 64 + 3 * 128) * 2


def test_a_token_reads_every_product_once_and_of_the_embedding_a_row(any_model: Loaded) -> None:
    model = any_model.model
    (table,) = (model.get_submodule(t.name).weight for t in targets(model) if t.kind == "embedding")  # type: ignore[union-attr]
    tied = any(t.tied_to for t in targets(model))
    positions = sum(m.weight.nbytes for n, m in model.named_modules() if n.endswith("wpe"))  # type: ignore[union-attr, operator, misc]
    unread = positions + (0 if tied else table.nbytes)  # type: ignore[operator]
    assert size.read_bytes(model) == size.resident_bytes(model) - unread


def test_a_token_reads_less_where_the_kernels_are_packed(llama: Loaded) -> None:
    recipe = Recipe(bits=4, head_bits=4)
    packed = settle(compress(llama.model, recipe, Facts()), [])
    kernels = {id(b): b.nbytes for m in packed.modules() if hasattr(m, "multiply") for b in m.buffers()}
    assert sum(kernels.values()) < size.read_bytes(packed) < size.read_bytes(llama.model) / 2


def test_what_is_beside_the_weights_is_told_up_to_the_models_context(any_model: Loaded) -> None:
    found = size.beside(any_model.model.config, 512, 2)
    assert list(found) == [128, 512]
    caches = [cache.value for cache, _ in found.values()]
    assert caches[1] == 4 * caches[0] > 0 and all(held.value > 0 for _, held in found.values())
