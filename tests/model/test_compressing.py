"""compress(model, recipe, facts) → model: pure, the same by every path, harder setting = larger error."""

import copy
from hashlib import sha256
from itertools import pairwise, product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from explorer.bench.speed import every_recipe
from explorer.layers.linear import CompressedEmbedding, CompressedLinear
from explorer.layers.storage import Stored, tensors_of
from explorer.layers.targets import targets
from explorer.measure.size import stored_bytes
from explorer.model import opening
from explorer.model.compressing import compress, kernels_of, notes_of, settle, skeleton
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.model.plan import plans
from explorer.values.recipe import Recipe

EXTREMES = [
    Recipe(bits=bits, sparsity=sparsity, keep=keep, head_bits=head_bits, group=group)
    for bits, sparsity, keep, head_bits, group in product((16, 8, 2), (0.0, 0.9), (1.0, 0.2), (16, 2), ("auto",))
]


def digest(model: nn.Module) -> str:
    whole = sha256()
    for name, tensor in model.state_dict().items():
        whole.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


@torch.inference_mode()
def logits(model: nn.Module, ids: Tensor) -> Tensor:
    return model(input_ids=ids, use_cache=False).logits


def weight_error(base: nn.Module, recipe: Recipe) -> float:
    """Frobenius distance of all compressed matrices to the original's."""
    model, total = compress(base, recipe, Facts()), 0.0
    for target in targets(base):
        module, weight = model.get_submodule(target.name), base.get_submodule(target.name).weight.double()
        if isinstance(module, CompressedLinear):
            total += float((module.decoded().double() - weight).square().sum())
        elif isinstance(module, CompressedEmbedding):
            total += float((module.stored.dense().double() - weight).square().sum())
    return total**0.5


def test_the_empty_recipe_changes_no_logit(any_model: Loaded, ids: Tensor) -> None:
    model = settle(compress(any_model.model, Recipe(), Facts()))
    assert torch.equal(logits(model, ids), logits(any_model.model, ids))


def test_the_empty_recipe_shares_every_tensor(any_model: Loaded) -> None:
    model = compress(any_model.model, Recipe(), Facts())
    mine, theirs = model.state_dict(), any_model.model.state_dict()
    assert model is not any_model.model and mine.keys() == theirs.keys()
    assert all(mine[name].data_ptr() == theirs[name].data_ptr() for name in mine)


def test_the_original_is_never_touched(any_model: Loaded, ids: Tensor) -> None:
    base, facts = any_model.model, Facts()
    before, said = digest(base), logits(base, ids)
    structure = [(name, type(module)) for name, module in base.named_modules()]
    for recipe in EXTREMES:
        logits(settle(compress(base, recipe, facts)), ids)
    assert digest(base) == before and torch.equal(logits(base, ids), said)
    assert [(name, type(module)) for name, module in base.named_modules()] == structure


def test_the_path_does_not_matter(any_model: Loaded) -> None:
    """The same recipe, first thing on new facts, or after many others on used ones: the same bytes."""
    recipes = list(every_recipe())[::4]
    used = Facts()
    there = {recipe: digest(compress(any_model.model, recipe, used)) for recipe in recipes}
    back = {recipe: digest(compress(any_model.model, recipe, used)) for recipe in reversed(recipes)}
    fresh = {recipe: digest(compress(any_model.model, recipe, Facts())) for recipe in recipes[::6]}
    assert there == back
    assert all(there[recipe] == fresh[recipe] for recipe in fresh)
    assert len(set(there.values())) > 0.9 * len(recipes)


@pytest.mark.parametrize(
    "ladder",
    [
        [Recipe(bits=bits) for bits in (16, 8, 6, 5, 4, 3, 2)],
        [Recipe(bits=bits, group="32") for bits in (16, 8, 6, 5, 4, 3, 2)],
        [Recipe(head_bits=bits) for bits in (16, 8, 6, 5, 4, 3, 2)],
        [Recipe(sparsity=i / 20) for i in range(0, 19, 2)],
        [Recipe(sparsity=i / 20, bits=4) for i in range(0, 19, 3)],
        [Recipe(keep=round(1 - i / 10, 2)) for i in range(9)],
        [Recipe(keep=round(1 - i / 5, 2), bits=4) for i in range(5)],
    ],
    ids=["bits", "bits in 32s", "head bits", "sparsity", "sparsity at 4 bits", "keep", "keep at 4 bits"],
)
def test_a_harder_setting_gives_a_larger_weight_error(any_model: Loaded, ladder: list[Recipe]) -> None:
    errors = [weight_error(any_model.model, recipe) for recipe in ladder]
    if ladder[0] == Recipe():
        assert errors[0] == 0
    if ladder[1].bits == 4 and ladder[1].sparsity:  # few survivors are easier to round; only the trend is a law
        assert errors[0] < errors[-1]
    else:
        assert all(softer <= harder * (1 + 1e-6) for softer, harder in pairwise(errors)) and errors[0] < errors[-1]


def test_each_added_method_adds_error(any_model: Loaded) -> None:
    alone = weight_error(any_model.model, Recipe(keep=0.6))
    pruned = weight_error(any_model.model, Recipe(keep=0.6, sparsity=0.5))
    assert alone < pruned < weight_error(any_model.model, Recipe(keep=0.6, sparsity=0.5, bits=3))


@pytest.mark.parametrize("recipe", EXTREMES, ids=Recipe.to_query)
def test_no_extreme_makes_a_number_that_is_none(any_model: Loaded, recipe: Recipe, ids: Tensor) -> None:
    model = compress(any_model.model, recipe, Facts())
    assert logits(model, ids).isfinite().all()
    assert logits(settle(model), ids).isfinite().all()


@pytest.mark.parametrize("recipe", EXTREMES, ids=Recipe.to_query)
def test_a_layer_of_zeros_stays_a_layer_of_zeros(llama: Loaded, recipe: Recipe, ids: Tensor) -> None:
    base = copy.deepcopy(llama.model)
    empty = targets(base)[1].name
    base.get_submodule(empty).weight.data.zero_()
    model = compress(base, recipe, Facts())
    layer = model.get_submodule(empty)
    x = torch.randn(1, 3, layer.in_features).bfloat16()
    assert (layer(x) == 0).all()
    assert (settle(model).get_submodule(empty)(x).abs() < 1e-5).all()
    assert logits(model, ids).isfinite().all()


@pytest.mark.parametrize("recipe", list(every_recipe())[::2], ids=Recipe.to_query)
def test_settling_keeps_the_logits(llama: Loaded, recipe: Recipe, ids: Tensor) -> None:
    model = compress(llama.model, recipe, Facts())
    before = logits(model, ids).float()
    after = logits(settle(model), ids).float()
    spread = before.std()
    assert (after - before).abs().mean() < 0.05 * spread
    assert (after.argmax(-1) == before.argmax(-1)).float().mean() > 0.7


@pytest.mark.parametrize("recipe", list(every_recipe())[::5], ids=Recipe.to_query)
def test_settling_a_float32_model_keeps_its_logits(gpt2: Loaded, recipe: Recipe, ids: Tensor) -> None:
    """To float32, or to the int16 that the compiled product rounds inputs to."""
    model = compress(gpt2.model, recipe, Facts())
    before = logits(model, ids)
    assert torch.allclose(logits(settle(model), ids), before, rtol=1e-3, atol=5e-3)


def test_a_tied_head_shares_one_stored(llama: Loaded, gpt2: Loaded) -> None:
    for base in (llama.model, gpt2.model):
        model = compress(base, Recipe(head_bits=4), Facts())
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        assert isinstance(embedding, CompressedEmbedding) and isinstance(head, CompressedLinear)
        assert head.stored() == [embedding.stored]
        assert sum("packed" in name for name in tensors_of(model)) == 1


def test_an_untied_head_is_stored_on_its_own(folders: dict[str, Path]) -> None:
    base = opening.load(str(folders["neox"])).model
    model = compress(base, Recipe(head_bits=4), Facts())
    assert model.get_output_embeddings().stored()[0] is not model.get_input_embeddings().stored


@pytest.mark.parametrize("recipe", [Recipe(bits=4), Recipe(keep=0.6), Recipe(sparsity=0.5)], ids=Recipe.to_query)
def test_biases_stay(gpt2: Loaded, recipe: Recipe) -> None:
    model = compress(gpt2.model, recipe, Facts())
    for target in targets(gpt2.model):
        if target.kind in ("attention", "mlp"):
            bias = gpt2.model.get_submodule(target.name).bias
            assert torch.equal(model.get_submodule(target.name).bias, bias) and bias.abs().sum() > 0


@pytest.mark.parametrize("recipe", list(every_recipe())[::5], ids=Recipe.to_query)
def test_a_skeleton_has_the_tensors_of_the_model(any_model: Loaded, recipe: Recipe) -> None:
    bones = skeleton(any_model.model, recipe).state_dict()
    built = compress(any_model.model, recipe, Facts()).state_dict()
    shape = {name: (tensor.shape, tensor.dtype) for name, tensor in built.items()}
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in bones.items()} == shape


def test_a_recipe_touches_only_what_it_names(any_model: Loaded) -> None:
    for recipe, kinds in ((Recipe(bits=4), {"attention", "mlp"}), (Recipe(head_bits=4), {"embedding", "head"})):
        planned = plans(targets(any_model.model), recipe)
        assert {t.kind for t in targets(any_model.model) if planned[t.name].factors} == kinds


def test_no_factor_pair_holds_more_than_may_be_kept(any_model: Loaded) -> None:
    for target in targets(any_model.model):
        for keep in (0.95, 0.6, 0.2):
            factors = plans([target], Recipe(keep=keep))[target.name].factors
            held = sum(rows * columns for (rows, columns), _ in factors)
            assert held <= keep * target.shape[0] * target.shape[1]


def test_a_settled_model_names_its_kernels_and_what_it_does_not_save(llama: Loaded) -> None:
    for recipe, kernel in ((Recipe(), "dense"), (Recipe(bits=4), "int4"), (Recipe(bits=8), "int8"),
                           (Recipe(sparsity=0.5), "decoded")):  # fmt: skip
        model = settle(compress(llama.model, recipe, Facts()))
        assert kernel in kernels_of(model)[0]
        assert bool(notes_of(model)) == (kernel == "decoded")


def test_a_settled_model_lets_its_stored_form_go(llama: Loaded) -> None:
    model = settle(compress(llama.model, Recipe(bits=4), Facts()))
    assert not [module for module in model.modules() if isinstance(module, Stored)]


def test_packing_makes_the_whole_model_smaller(llama: Loaded) -> None:
    sizes = [stored_bytes(compress(llama.model, Recipe(bits=b, head_bits=b), Facts())) for b in (16, 8, 6, 5, 4, 3, 2)]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0] / 4


def test_an_embedding_that_scales_its_rows_still_scales_them(ids: Tensor) -> None:
    config = Gemma3TextConfig(
        vocab_size=300, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=512,
    )  # fmt: skip
    base = Gemma3ForCausalLM(config).eval()
    model = compress(base, Recipe(head_bits=8), Facts())
    with torch.inference_mode():
        there, here = (each.get_input_embeddings()(ids) for each in (base, model))
    assert torch.allclose(here, there, atol=0.05 * float(there.abs().max()))
