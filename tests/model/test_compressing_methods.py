"""The laws of composition with a calibrated model: what each method promises holds on whole models."""

import copy
from collections.abc import Callable
from hashlib import sha256

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.layers.linear import CompressedLinear
from explorer.layers.storage import Quantized, Sparse
from explorer.layers.targets import siblings, targets, weight_of
from explorer.model.compressing import Built, build, compress, settle, skeleton
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.ranges import CHOICES, RANGES
from explorer.values.recipe import Recipe

FactsOf = Callable[[nn.Module], Facts]
EXTREMES = [Recipe(**{name: end}) for name, r in RANGES.items() for end in (r.low, r.high) if name != "residual_rank"]
EXTREMES += [Recipe(bits=2, sparsity=0.9, residual_rank=128), Recipe(depth=0.9, width=0.9, heads=0.9, bits=2, keep=0.2)]
EXTREMES += [Recipe(sparsity=0.9, prune=p, scope=s, bits=2) for p in CHOICES["prune"] for s in CHOICES["scope"]]
EXTREMES += [Recipe(bits=2, quant=quant, group=group) for quant in CHOICES["quant"][:5] for group in CHOICES["group"]]
EXTREMES += [Recipe(quant="nf4", double=True, head_bits=2), Recipe(quant="int8", head_bits=8)]
EXTREMES += [
    Recipe(keep=0.2, factorize=f, allocate=a, bits=2) for f in CHOICES["factorize"] for a in ("uniform", "global")
]
EXTREMES += [Recipe(width=0.9, width_by="flap", depth=0.9, depth_by="angular")]


def built(base: nn.Module, recipe: Recipe, facts: Facts) -> tuple[Built, list[float]]:
    steps, shares = build(base, recipe, facts), []
    while True:
        try:
            shares.append(next(steps))
        except StopIteration as end:
            return end.value, shares


def digest(model: nn.Module) -> str:
    whole = sha256()
    for name, tensor in model.state_dict().items():
        whole.update(name.encode() + tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


@torch.inference_mode()
def logits(model: nn.Module, ids: Tensor) -> Tensor:
    return model(input_ids=ids, use_cache=False).logits


def lost(base: nn.Module, recipe: Recipe, facts: Facts) -> float:
    """Σ tr(D H Dᵀ) over all layers: the squared error of their outputs on what they were calibrated with."""
    model, total = compress(base, recipe, facts), 0.0
    for target in targets(base):
        layer, gram = model.get_submodule(target.name), facts.gram(target.name)
        if isinstance(layer, CompressedLinear) and gram is not None:
            difference = (weight_of(base.get_submodule(target.name)).float() - layer.decoded()).double()
            total += float(((difference @ gram.double()) * difference).sum())
    return total


def test_the_original_is_never_touched(
    any_model: Loaded, facts_of: FactsOf, everything: list[Recipe], ids: Tensor
) -> None:
    base, facts = any_model.model, facts_of(any_model.model)
    before, said = digest(base), logits(base, ids)
    modules, config = [(name, type(module)) for name, module in base.named_modules()], base.config.to_dict()
    for recipe in everything[::2]:
        if not recipe.heads or base.config.model_type == "llama":
            settle(compress(base, recipe, facts))
    assert digest(base) == before and torch.equal(logits(base, ids), said)
    assert [(name, type(module)) for name, module in base.named_modules()] == modules
    assert base.config.to_dict() == config and not any(p.requires_grad or p.grad is not None for p in base.parameters())


def test_the_path_does_not_matter(llama: Loaded, facts_of: FactsOf, everything: list[Recipe]) -> None:
    """The same recipe on facts just prepared, and on facts that have served all others: the same bytes."""
    fresh, used = copy.deepcopy(facts_of(llama.model)), facts_of(llama.model)
    there = {recipe: digest(compress(llama.model, recipe, used)) for recipe in everything}
    back = {recipe: digest(compress(llama.model, recipe, used)) for recipe in reversed(everything)}
    assert there == back
    for recipe in everything[::5]:
        assert digest(compress(llama.model, recipe, copy.deepcopy(fresh))) == there[recipe], recipe
    assert len(set(there.values())) > 0.95 * len(everything)


@pytest.mark.parametrize("recipe", EXTREMES, ids=Recipe.to_query)
def test_no_extreme_makes_a_number_that_is_none(llama: Loaded, facts_of: FactsOf, recipe: Recipe, ids: Tensor) -> None:
    model = compress(llama.model, recipe, facts_of(llama.model))
    assert logits(model, ids).isfinite().all()
    assert logits(settle(model, siblings(llama.model)), ids).isfinite().all()


def test_a_layer_of_zeros_and_one_whose_input_is_zero_do_no_harm(llama: Loaded, ids: Tensor) -> None:
    base = copy.deepcopy(llama.model)
    base.model.layers[0].mlp.up_proj.weight.data.zero_()  # so that nothing goes into down_proj
    facts = Facts()
    list(facts.calibrate(base, [ids, ids])), list(facts.prepare(base))
    for recipe in EXTREMES[::3]:
        assert logits(settle(compress(base, recipe, facts)), ids).isfinite().all(), recipe


def test_the_share_done_only_grows(llama: Loaded, facts_of: FactsOf, everything: list[Recipe]) -> None:
    for recipe in [*everything[::6], Recipe(bits=3, quant="gptq", residual_rank=8)]:
        facts = copy.deepcopy(facts_of(llama.model))
        for key in [key for key in facts._kept if key.endswith("|felt")]:
            del facts._kept[key]
        _, shares = built(llama.model, recipe, facts)
        assert sorted([0.0, *shares, 1.0]) == [0.0, *shares, 1.0], recipe


@pytest.mark.parametrize("name", ["llama", "llama32", "gpt2"])
def test_what_hands_errors_on_or_knows_the_inputs_is_nearer(
    name: str, request: pytest.FixtureRequest, facts_of: FactsOf
) -> None:
    base = request.getfixturevalue(name).model
    facts = facts_of(base)

    def errors(*recipes: Recipe) -> list[float]:
        return [lost(base, recipe, facts) for recipe in recipes]

    for scope in ({"scope": "row"}, {"scope": "layer"}, {"pattern": "2:4"}, {"pattern": "4:8"}):
        found = errors(*(Recipe(sparsity=0.5, prune=p, **scope) for p in ("sparsegpt", "wanda", "magnitude")))
        assert found == sorted(found) and found[0] < 0.95 * found[1], scope
    zeros = errors(Recipe(sparsity=0.5), Recipe(pattern="4:8"), Recipe(pattern="2:4"))
    assert zeros == sorted(zeros)
    for bits in (2, 3, 4):
        gptq, search, rtn = errors(*(Recipe(bits=bits, quant=quant) for quant in ("gptq", "search", "rtn")))
        assert gptq < 0.9 * search and search < rtn
    ranks = errors(*(Recipe(keep=0.5, factorize=method) for method in ("covariance", "asvd", "svd")))
    assert ranks[0] < ranks[1] and ranks[0] < ranks[2]


@pytest.mark.parametrize(
    "harm", [{"bits": 3}, {"bits": 2, "quant": "awq"}, {"sparsity": 0.5}, {"keep": 0.5, "bits": 3}]
)
def test_a_residual_mends_and_all_of_it_mends_everything(
    llama32: Loaded, facts_of: FactsOf, harm: dict[str, float]
) -> None:
    base, facts = llama32.model, facts_of(llama32.model)
    errors = [lost(base, Recipe(**harm, residual_rank=rank), facts) for rank in (0, 8, 24, 64)]  # type: ignore[arg-type]
    assert errors[1] < 0.9 * errors[0] and errors[2] < 0.9 * errors[1]
    assert errors[3] < 1e-6 * errors[0]  # 64 is the least side of every matrix


def test_awq_is_the_plain_product_with_scaled_inputs(llama32: Loaded, facts_of: FactsOf) -> None:
    base, facts, recipe = llama32.model, facts_of(llama32.model), Recipe(bits=3, quant="awq")
    model = compress(base, recipe, facts)
    for target in targets(base):
        layer = model.get_submodule(target.name)
        if not isinstance(layer, CompressedLinear):
            continue
        x = torch.randn(5, target.shape[1])
        assert layer.input_scale is not None and layer.input_scale.unique().numel() > 1
        dense = layer.stored()[0].dense()
        torch.testing.assert_close(layer(x), F.linear(x / layer.input_scale, dense), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(layer(x), F.linear(x, layer.decoded()), rtol=1e-4, atol=1e-4)
        near = (dense / layer.input_scale - weight_of(base.get_submodule(target.name))).norm()
        assert near < 0.5 * base.get_submodule(target.name).weight.norm()
    for group in siblings(base):
        scales = [model.get_submodule(name).input_scale for name in group]
        assert all(torch.equal(scale, scales[0]) for scale in scales)
        assert len({scale.data_ptr() for scale in scales}) == len(scales)
    assert lost(base, recipe, facts) < lost(base, Recipe(bits=3, quant="rtn"), facts)


@pytest.mark.parametrize("prune", CHOICES["prune"])
@pytest.mark.parametrize("pattern", ["2:4", "4:8"])
@pytest.mark.parametrize("keep", [1.0, 0.6])
def test_every_pattern_has_exactly_n_of_every_m(
    llama: Loaded, facts_of: FactsOf, prune: str, pattern: str, keep: float
) -> None:
    n, m = map(int, pattern.split(":"))
    recipe = Recipe(prune=prune, pattern=pattern, keep=keep, bits=4)
    model, seen = compress(llama.model, recipe, facts_of(llama.model)), 0
    for stored in (module for module in model.modules() if isinstance(module, Sparse)):
        kept = stored._scatter(torch.ones(stored.values()))
        whole = kept.shape[1] // m * m
        assert (kept[:, :whole].reshape(kept.shape[0], -1, m).sum(2) == n).all()
        seen += 1
    assert seen == (1 if keep == 1 else 2) * 14


@pytest.mark.parametrize("prune", CHOICES["prune"])
def test_a_global_share_is_that_of_all_matrices_together(llama: Loaded, facts_of: FactsOf, prune: str) -> None:
    found, _ = built(llama.model, Recipe(sparsity=0.5, scope="global", prune=prune), facts_of(llama.model))
    stored = [module for module in found.model.modules() if isinstance(module, Sparse)]
    total = sum(each.shape[0] * each.shape[1] for each in stored)
    assert sum(each.values() for each in stored) == sum(found.allotted.kept.values())
    assert abs(sum(each.values() for each in stored) - total / 2) < 0.01 * total
    assert len({each.values() / (each.shape[0] * each.shape[1]) for each in stored}) > 5


def test_a_global_allotment_of_ranks_stays_within_its_budget(llama32: Loaded, facts_of: FactsOf) -> None:
    base, facts = llama32.model, facts_of(llama32.model)
    layers = [t for t in targets(base) if t.kind in ("attention", "mlp")]
    for keep in (0.3, 0.6, 0.9):
        found, _ = built(base, Recipe(keep=keep, allocate="global"), facts)
        ranks = found.allotted.rank
        assert ranks.keys() == {target.name for target in layers} and len(set(ranks.values())) > 1
        held = [ranks[t.name] * sum(t.shape) or t.shape[0] * t.shape[1] for t in layers]
        assert sum(held) <= keep * sum(t.shape[0] * t.shape[1] for t in layers)
        for target in layers:
            layer, rank = found.model.get_submodule(target.name), ranks[target.name]
            shapes = [part.shape for part in layer.stored()] if isinstance(layer, CompressedLinear) else []
            assert shapes == ([(target.shape[0], rank), (rank, target.shape[1])] if rank else [])


def test_exceptions_and_protection_reach_the_layers(llama: Loaded, facts_of: FactsOf) -> None:
    recipe = Recipe(bits=4, layers=("mlp=bits:3", "*.down_proj=sparsity:0.5", "first=group:32"), protect=("q_proj",))
    model = compress(llama.model, recipe, facts_of(llama.model))
    for target in targets(llama.model)[1:-1]:
        layer = model.get_submodule(target.name)
        if target.name.endswith("q_proj"):
            assert isinstance(layer, nn.Linear) and layer.weight is llama.model.get_submodule(target.name).weight
            continue
        (stored,) = layer.stored()
        inner = stored.kept if isinstance(stored, Sparse) else stored
        assert isinstance(stored, Sparse) == target.name.endswith("down_proj")
        assert isinstance(inner, Quantized) and inner.bits == (3 if target.kind == "mlp" else 4)
        assert inner.group == (32 if target.block == 0 else 64)


@pytest.mark.parametrize("protected", ["head", "embedding", "lm_head", "embed_tokens"])
def test_a_tied_head_and_its_embedding_are_protected_together(llama: Loaded, facts_of: FactsOf, protected: str) -> None:
    model = compress(llama.model, Recipe(bits=4, head_bits=4, protect=(protected,)), facts_of(llama.model))
    assert model.get_output_embeddings().weight is llama.model.get_input_embeddings().weight
    assert model.get_input_embeddings().weight is llama.model.get_input_embeddings().weight


def test_a_skeleton_has_the_tensors_of_the_model(llama: Loaded, facts_of: FactsOf, everything: list[Recipe]) -> None:
    for recipe in everything:
        if recipe.structural:
            continue  # a skeleton starts from the smaller model
        found, _ = built(llama.model, recipe, facts_of(llama.model))
        bones = skeleton(llama.model, recipe, found.allotted).state_dict()
        expected = {name: (tensor.shape, tensor.dtype) for name, tensor in found.model.state_dict().items()}
        assert {name: (tensor.shape, tensor.dtype) for name, tensor in bones.items()} == expected, recipe
