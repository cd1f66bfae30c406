"""build(model, recipe, facts) → a compressed model. Pure: the original is never touched, and what a recipe leaves alone
is shared with it by reference. Always from the original weights, so the path of the sliders does not matter.

Order: take blocks, channels and heads out, factorize, prune the factors, quantize what is kept, mend with a residual. A
sparse or rounded matrix has a higher rank, masks come from unrounded weights, and pruning before rounding is the better
order (Harma et al., arXiv 2405.20935).
"""

import copy
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn

from explorer.layers.experts import Stack
from explorer.layers.kernels import Kernel
from explorer.layers.linear import CompressedEmbedding, CompressedLinear, settle_together
from explorer.layers.storage import Quantized, Sparse, Spec, Stored, empty, encode
from explorer.layers.targets import Target, siblings, targets, weight_of
from explorer.methods import factorize, prune, quantize, secondorder
from explorer.model import structure
from explorer.model.encode import Job, Order, store, store_together, together
from explorer.model.facts import Facts, ReducedFacts
from explorer.model.plan import NOTHING, Allotment, Plan, plans
from explorer.model.rotate import rotate, with_rotated_ends
from explorer.values.progress import HealStep, scaled
from explorer.values.recipe import Recipe

Stores = Mapping[str, list[list[Stored]]]  # target → branches of factors


@dataclass(frozen=True, kw_only=True)
class Built:
    """A model that stores its weights as the recipe says (call `settle` before running it), what was allotted, and how
    it was healed."""

    model: nn.Module
    allotted: Allotment
    note: str = ""
    curve: tuple[HealStep, ...] = ()


AT_ONCE, LARGE = 8, 4_000_000  # matrices, each of which takes about a millisecond; weights of one that takes longer


def build(base: nn.Module, recipe: Recipe, facts: Facts) -> Generator[float, None, Built]:
    """Step by step; yields the share done so that a caller can show it, or stop."""
    start = 0.0
    if recipe.second_order and facts.tokens and not facts.refined:
        for share in facts.refine(base):
            start = 0.8 * share
            yield start
    base, facts, note = reshape(base, recipe, facts)
    found = targets(base)
    allotted = allot(base, found, recipe, facts)
    planned = plans(found, recipe, allotted)
    scales = _input_scales(base, recipe, facts, planned) if recipe.quant == "awq" else {}
    stores = yield from scaled(_stores(base, found, recipe, facts, planned, scales), start, 1 - start)
    return Built(model=_install(base, found, planned, stores, scales), allotted=allotted, note=note)


def reshape(base: nn.Module, recipe: Recipe, facts: Facts, scores: Facts | None = None) -> tuple[nn.Module, Facts, str]:
    """The recipe's blocks, channels and heads taken out, and the rest rotated if it says so: the model whose matrices
    are compressed then, facts of it, and a note. Before the calibration only the shapes are right; blocks may be of
    several shapes, and those that stay are right where `scores` are facts of the calibrated model."""
    note = ""
    if recipe.structural:
        reduced = structure.reduce(
            base,
            depth=recipe.depth,
            width=recipe.width,
            heads=recipe.heads,
            depth_method="angular" if recipe.depth_by == "angular" else "influence",
            width_method="flap" if recipe.width_by == "flap" else "nystrom",
            facts=facts if facts.tokens else None,
            scores=scores if scores and scores.tokens else None,
        )
        base, note = reduced.model, reduced.note
        facts = ReducedFacts(facts, reduced.origin, reduced.changed, reduced.kept_channels)
    if recipe.rotate:
        base, facts = rotate(base, facts)
    return base, facts, note


def compress(base: nn.Module, recipe: Recipe, facts: Facts) -> nn.Module:
    """`build` in one go."""
    steps = build(base, recipe, facts)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            built: Built = end.value
            return built.model


def skeleton(base: nn.Module, recipe: Recipe, allotted: Allotment = NOTHING) -> nn.Module:
    """The same structure with empty buffers, for loading an export into; `base` has the export's blocks and widths
    already and may live on the meta device."""
    base = with_rotated_ends(base) if recipe.rotate else base
    found = targets(base)
    planned = plans(found, recipe, allotted)
    dtypes = {t.name: weight_of(base.get_submodule(t.name)).dtype for t in found}
    stores = {
        name: [
            [empty(shape, spec, dtypes[name]) for shape, spec in branch] for branch in (p.factors, p.residual) if branch
        ]
        for name, p in planned.items()
    }
    scales = {t.name: torch.empty(t.shape[1], dtype=dtypes[t.name]) for t in found if planned[t.name].scaled}
    return _install(base, found, planned, stores, scales)


def settle(model: nn.Module, siblings: Sequence[Sequence[str]] = ()) -> nn.Module:
    """Move every compressed layer from storage to execution, in place; the model can no longer be exported.

    Siblings (see `targets.siblings`) are multiplied in one product where a kernel carries them.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, CompressedLinear)}
    for names in siblings:
        if all(name in layers for name in names):
            settle_together([layers.pop(name) for name in names])
    for layer in layers.values():
        layer.settle()
    for module in model.modules():
        if isinstance(module, Quantized | Sparse):
            module.fresh = None  # an embedding keeps its Stored, not what encode had at hand
    return model


def kernels_of(model: nn.Module) -> list[str]:
    """Names of the kernels that a settled model runs on, most frequent first; `dense` is an untouched linear layer."""
    names = [m.name for m in model.modules() if isinstance(m, Kernel)]
    names += ["dense" for m in model.modules() if isinstance(m, nn.Linear)]
    return sorted(set(names), key=names.count, reverse=True)


def notes_of(model: nn.Module) -> list[str]:
    """Why some savings are not there, each said once."""
    notes = [module.note for module in model.modules() if isinstance(module, CompressedLinear) and module.kernels]
    return sorted(set(filter(None, notes)))


def allot(base: nn.Module, found: Sequence[Target], recipe: Recipe, facts: Facts) -> Allotment:
    """One budget for all matrices: the same threshold for every score, or the best eigenvalues of all spectra."""
    kept: dict[str, int] = {}
    rank: dict[str, int] = {}
    layers = [t for t in found if t.kind in ("attention", "mlp")]
    places = 1 + max((t.block for t in layers), default=-1)
    settings = {t.name: recipe.setting(t.name, t.kind, t.block, places) for t in layers}
    if recipe.scope == "global" and recipe.sparsity:
        chosen = [t for t in layers if settings[t.name].sparsity == recipe.sparsity and settings[t.name].keep == 1]
        scores = [facts.score(t.name, weight_of(base.get_submodule(t.name)), recipe.prune) for t in chosen]
        lost = prune.share_below(scores, recipe.sparsity) if chosen else []
        kept = {t.name: t.shape[0] * t.shape[1] - count for t, count in zip(chosen, lost, strict=True)}
    if recipe.allocate == "global" and recipe.keep < 1:
        chosen = [t for t in layers if settings[t.name].keep == recipe.keep]
        weights = [weight_of(base.get_submodule(t.name)) for t in chosen]
        spectra = [facts.spectrum(t.name, w, recipe.factorize)[2].cpu() for t, w in zip(chosen, weights, strict=True)]
        ranks = factorize.allocate(spectra, [t.shape for t in chosen], recipe.keep)
        rank = {t.name: r for t, r in zip(chosen, ranks, strict=True)}
    return Allotment(kept=kept, rank=rank)


def _stores(
    base: nn.Module,
    found: Sequence[Target],
    recipe: Recipe,
    facts: Facts,
    planned: Mapping[str, Plan],
    scales: Mapping[str, Tensor],
) -> Generator[float, None, Stores]:
    """Everything encoded: matrix by matrix, or all of one shape together where errors are handed on."""
    orders: list[Order] = []
    for target in found:
        plan = planned[target.name]
        if plan.factors and not target.tied_to:
            orders += _orders(target, weight_of(base.get_submodule(target.name)), plan, recipe, facts, scales)
    stored: dict[tuple[str, int], Stored] = {}
    batches = together(orders, recipe)
    batched = {id(order) for batch in batches for order in batch}
    done, steps = 0.0, len(orders) + sum(bool(planned[t.name].residual) for t in found)
    for order in orders:
        if id(order) not in batched:
            stored[order.name, order.place] = store(order.job(), recipe, facts)
            done += 1
            if done % AT_ONCE == 0 or order.shape[0] * order.shape[1] > LARGE:
                yield done / steps
    for batch in batches:
        jobs = [order.job() for order in batch]
        results = yield from scaled(store_together(jobs, recipe), done / steps, len(batch) / steps)
        stored |= {(job.name, job.place): one for job, one in zip(jobs, results, strict=True)}
        done += len(batch)
    stores: dict[str, list[list[Stored]]] = {}
    for target in found:
        plan = planned[target.name]
        if plan.factors and not target.tied_to:
            stores[target.name] = [[stored[target.name, place] for place in range(len(plan.factors))]]
            if plan.residual:
                weight = weight_of(base.get_submodule(target.name))
                stores[target.name].append(_residual(target, weight, stores, plan, facts, scales))
                done += 1
                yield done / steps
    return stores


def _orders(
    target: Target, weight: Tensor, plan: Plan, recipe: Recipe, facts: Facts, scales: Mapping[str, Tensor]
) -> Iterator[Order]:
    """One for the matrix, or for each of its factors; only the right one meets the layer's input."""
    name, calibrated = target.name, target.kind in ("attention", "mlp") and facts.calibrated(target.name)

    def whole(spec: Spec, _: tuple[int, int]) -> Job:
        gram, power = _about_input(target, recipe, facts)
        job = Job(name=name, place=0, matrix=weight, spec=spec, gram=gram, importance=power, whole=True)
        if name not in scales:
            return job
        scale = scales[name].float()
        seen = None if gram is None else gram / scale / scale[:, None]  # of the inputs as they will be divided
        return replace(job, matrix=weight * scales[name], unscaled=weight, gram=seen, whole=False)

    def left(spec: Spec, shape: tuple[int, int]) -> Job:
        factor, _, values = facts.spectrum(name, weight, recipe.factorize)
        power = values[: shape[1]] if recipe.factorize == "covariance" and calibrated else None
        return Job(name=name, place=0, matrix=factor[:, : shape[1]].clone(), spec=spec, importance=power)

    def right(spec: Spec, shape: tuple[int, int]) -> Job:
        factor, ranks = facts.spectrum(name, weight, recipe.factorize)[1][: shape[0]].clone(), None
        if recipe.sparsity and recipe.prune in ("magnitude", "wanda"):
            ranks = facts.right_ranks(name, weight, recipe.factorize, recipe.prune)[: shape[0]]
        gram, power = _about_input(target, recipe, facts)
        return Job(name=name, place=1, matrix=factor, spec=spec, gram=gram, importance=power, ranks=ranks)

    works = [whole] if len(plan.factors) == 1 else [left, right]
    for place, (work, (shape, spec)) in enumerate(zip(works, plan.factors, strict=True)):
        yield Order(
            name=name,
            place=place,
            shape=shape,
            spec=spec,
            dtype=weight.dtype,
            calibrated=calibrated and work is not left,
            job=partial(work, spec, shape),
        )


def _about_input(target: Target, recipe: Recipe, facts: Facts) -> tuple[Tensor | None, Tensor | None]:
    """H where a method hands errors on, and its diagonal."""
    if target.kind not in ("attention", "mlp"):
        return None, None
    gram = None
    if recipe.second_order or recipe.mends:
        gram = (facts.felt_gram if recipe.second_order else facts.gram)(target.name)
    if gram is not None and target.experts:
        gram = secondorder.steadied(gram, facts.met(target.name))
    return gram, facts.importance(target.name)


def _residual(
    target: Target, weight: Tensor, stores: Stores, plan: Plan, facts: Facts, scales: Mapping[str, Tensor]
) -> list[Stored]:
    """The best two thin factors of what is lost, in the norm of the inputs (Liu et al., EoRA, arXiv 2410.21271, §3)."""
    layer = CompressedLinear(stores[target.name], None, scales.get(target.name))
    lost = weight.float() - layer.decoded().to(weight.device)
    left, right, _ = factorize.spectrum(lost, plan.residual[1][0][0], facts.gram(target.name))
    scale = scales.get(target.name)
    right = right if scale is None else right * scale.float()
    return [encode(part.to(weight.dtype), plan.residual[0][1]) for part in (left, right)]


def _input_scales(base: nn.Module, recipe: Recipe, facts: Facts, planned: Mapping[str, Plan]) -> dict[str, Tensor]:
    """AWQ's scales, one for all layers with the same input."""
    groups = siblings(base)
    single = [[t.name] for t in targets(base) if not any(t.name in group for group in groups)]
    scales: dict[str, Tensor] = {}
    for group in chain(groups, single):
        scaled = [name for name in group if planned[name].scaled]
        size = facts.mean_size(scaled[0]) if scaled else None
        importance = facts.importance(scaled[0]) if scaled else None
        if size is None or importance is None:
            continue
        weights = [weight_of(base.get_submodule(name)) for name in scaled]
        spec = planned[scaled[0]].factors[0][1]
        scale = quantize.awq_scale(weights, size, importance, spec.bits, spec.group).to(weights[0].dtype)
        scales |= dict.fromkeys(scaled, scale)
    return scales


def _install(
    base: nn.Module,
    found: Sequence[Target],
    planned: Mapping[str, Plan],
    stores: Stores,
    scales: Mapping[str, Tensor],
) -> nn.Module:
    replaced = [target for target in found if planned[target.name].factors]
    shared = chain(base.parameters(), base.buffers(), (base.get_submodule(t.name) for t in replaced))
    model = copy.deepcopy(base, {id(part): part for part in shared})  # the other modules anew, every tensor shared
    biases = dict[str, Tensor | None]()  # one for all who share a weight
    for target in replaced:
        branches = stores[target.tied_to or target.name]
        module = base.get_submodule(target.name)
        if target.kind == "embedding":
            scale, rotation = (getattr(module, name, None) for name in ("embed_scale", "rotation"))
            model.set_submodule(target.name, CompressedEmbedding(branches[0][0], scale, rotation))
        else:
            bias = biases.setdefault(target.tied_to or target.name, _bias_of(module))
            scale = scales.get(target.name)
            own = None if scale is None else scale.clone()  # a file counts shared memory once
            model.set_submodule(target.name, CompressedLinear(branches, bias, own))
            owner = model.get_submodule(target.name.rpartition(".")[0])
            if isinstance(owner, Stack):
                owner.put_together(None, None)
    if next(model.parameters(), None) is None:  # transformers asks a model's first parameter for dtype and device
        first = next(base.parameters())
        model.register_parameter("nothing", nn.Parameter(first.new_empty(0), requires_grad=False))
    return model


def _bias_of(module: nn.Module) -> Tensor | None:
    bias = getattr(module, "bias", None)
    return bias.detach() if isinstance(bias, Tensor) else None
