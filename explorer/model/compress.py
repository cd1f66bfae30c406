"""compress(model, recipe, facts) → model. Pure: the original is never touched, and what a recipe leaves alone is shared
with it by reference. Always from the original weights, so the path of the sliders does not matter.

Order: factorize, then prune the factors, then quantize what is kept. A sparse or rounded matrix has a higher rank,
masks come from unrounded weights, and pruning before rounding is the better order (Harma et al., arXiv 2405.20935).
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import cast

from torch import Tensor, nn

from explorer.layers.kernels import Kernel
from explorer.layers.linear import CompressedEmbedding, CompressedLinear, settle_together
from explorer.layers.storage import Quantized, Sparse, Spec, Stored, empty, encode
from explorer.layers.targets import Target, targets
from explorer.methods import factorize
from explorer.model.facts import Facts
from explorer.recipe import Recipe

Plan = tuple[tuple[tuple[int, int], Spec], ...]  # (shape, spec) of each factor; () = left as it is
Store = Callable[[Target, Plan], list[Stored]]


def plan(target: Target, recipe: Recipe) -> Plan:
    """How this recipe stores this matrix: nothing, one Stored, or two thin factors."""
    rows, columns = target.shape
    if target.kind in ("embedding", "head"):
        if recipe.head_bits == 16:
            return ()
        return (((rows, columns), Spec(bits=recipe.head_bits, group=recipe.group_size(recipe.head_bits))),)
    spec = Spec(bits=recipe.bits, group=recipe.group_size(recipe.bits), sparsity=recipe.sparsity)
    if recipe.keep < 1:
        rank = factorize.rank_for(rows, columns, recipe.keep)
        return (((rows, rank), spec), ((rank, columns), spec))
    return (((rows, columns), spec),) if spec.bits < 16 or spec.sparsity else ()


def compress(base: nn.Module, recipe: Recipe, facts: Facts) -> nn.Module:
    """A model of its own that stores its weights as the recipe says; call `settle` on it before running it."""

    def store(target: Target, factors: Plan) -> list[Stored]:
        weight = cast(nn.Linear, base.get_submodule(target.name)).weight.detach()
        if len(factors) == 2:
            rank = factors[1][0][0]
            left, right = facts.spectrum(target.name, weight)
            spec = factors[0][1]
            ranks = facts.right_ranks(target.name, weight)[:rank] if spec.sparsity else None
            return [encode(left[:, :rank].clone(), spec), encode(right[:rank].clone(), spec, ranks)]
        spec = factors[0][1]
        return [encode(weight, spec, facts.ranks(target.name, weight) if spec.sparsity else None)]

    return _rebuild(base, recipe, store)


def skeleton(base: nn.Module, recipe: Recipe) -> nn.Module:
    """The same structure with empty buffers, for loading an export into; `base` may live on the meta device."""
    dtype = next(base.parameters()).dtype
    return _rebuild(base, recipe, lambda _, factors: [empty(shape, spec, dtype) for shape, spec in factors])


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


def _rebuild(base: nn.Module, recipe: Recipe, store: Store) -> nn.Module:
    shared: Iterable[Tensor] = chain(base.parameters(), base.buffers())
    model = copy.deepcopy(base, {id(tensor): tensor for tensor in shared})  # the modules anew, every tensor shared
    embeddings: dict[str, Stored] = {}
    for target in targets(base):
        factors = plan(target, recipe)
        if not factors:
            continue
        stored = [embeddings[target.tied_to]] if target.tied_to else store(target, factors)
        if target.kind == "embedding":
            embeddings[target.name] = stored[0]
            scale = getattr(base.get_submodule(target.name), "embed_scale", None)
            model.set_submodule(target.name, CompressedEmbedding(stored[0], scale))
        else:
            bias = cast(nn.Linear, base.get_submodule(target.name)).bias
            model.set_submodule(target.name, CompressedLinear(stored, None if bias is None else bias.detach()))
    return model
