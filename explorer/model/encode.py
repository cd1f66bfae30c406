"""One matrix, or many of one shape, to what is stored: choose the mask, choose the grid, round. The methods are those
of `methods/`; which of them, and with what knowledge of the inputs, is decided here."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.layers.storage import Spec, Stored, encode
from explorer.methods import prune, quantize, secondorder
from explorer.model.facts import Facts
from explorer.native import encoding
from explorer.values.progress import scaled
from explorer.values.recipe import Recipe

BATCH_BYTES = 200_000_000  # of weights and Gram matrices that go through the loop together, three times over


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A matrix to be stored: a target's weight, or one of its factors (place 0 is left), and what is known of its
    input: H (columns, columns), its diagonal, and the ranks of the weights where they are kept."""

    name: str
    place: int
    matrix: Tensor
    spec: Spec
    gram: Tensor | None = None
    importance: Tensor | None = None
    ranks: Tensor | None = None
    unscaled: Tensor | None = None  # the weight before AWQ scaled its columns: masks come from it
    whole: bool = False  # the target's own weight, whose ranks and grids are kept


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """A job that is not at hand yet, and what decides which way it goes: all jobs at once would take the memory of all
    facts. `calibrated`: whether H will be known."""

    name: str
    place: int
    shape: tuple[int, int]
    spec: Spec
    dtype: torch.dtype
    calibrated: bool
    job: Callable[[], Job]


def store(job: Job, recipe: Recipe, facts: Facts) -> Stored:
    """By itself: no error is handed on."""
    spec, mask = job.spec, _mask(job, recipe, facts)
    searched = spec.bits < 16 and spec.format == "grid" and recipe.quant in ("search", "gptq")
    if job.whole and mask is None and searched:
        return encode(job.matrix, spec, None, facts.grid(job.name, job.matrix, spec.bits, spec.group))
    return _by_itself(job, job.matrix, mask, recipe)


def _by_itself(job: Job, matrix: Tensor, mask: Tensor | None, recipe: Recipe) -> Stored:
    """`matrix` is the job's, as pruning left it."""
    spec = job.spec
    if spec.bits >= 16 or spec.format != "grid" or recipe.quant not in ("hqq", "search", "gptq"):
        return encode(matrix, spec, mask)
    kept, inner = matrix, spec
    if mask is not None:
        shape, inner = spec.inner(matrix.shape[0])
        kept = encoding.select(matrix, mask, shape)
    if recipe.quant == "hqq":
        codes, scale, zero = quantize.hqq(kept, spec.bits, spec.group)
        return encode(matrix, spec, mask, (scale, zero), codes)
    return encode(matrix, spec, mask, _search(kept, inner, job.importance, mask))


def together(orders: Sequence[Order], recipe: Recipe) -> list[list[Order]]:
    """Those whose errors are handed on (SparseGPT, GPTQ, and zeros that are to be healed), by shape, spec and dtype,
    in batches that fit in memory."""
    groups: dict[tuple[tuple[int, int], Spec, torch.dtype], list[Order]] = {}
    for order in orders:
        rounds = order.spec.bits < 16 and order.spec.format == "grid" and recipe.quant == "gptq"
        zeros = order.spec.kept is not None and (recipe.prune == "sparsegpt" or recipe.mends)
        if order.calibrated and (rounds or zeros):
            groups.setdefault((order.shape, order.spec, order.dtype), []).append(order)
    batches = []
    for (shape, *_), group in groups.items():
        size = max(1, BATCH_BYTES // (12 * shape[1] * sum(shape)))
        batches += [group[at : at + size] for at in range(0, len(group), size)]
    return batches


def store_together(batch: Sequence[Job], recipe: Recipe) -> Generator[float, None, list[Stored]]:
    """All with their errors handed on; yields the share done and returns what is stored, in order."""
    spec, dtype = batch[0].spec, batch[0].matrix.dtype
    weights = torch.stack([job.matrix.float() for job in batch])  # (batch, n, m)
    grams = [job.gram for job in batch if job.gram is not None]
    if spec.kept is None:
        codes, grids = yield from _rounded(weights, grams, spec)
        found = zip(weights, grids, codes, strict=True)
        return [encode(matrix.to(dtype), spec, None, grid, code) for matrix, grid, code in found]
    rounds, chooses = spec.bits < 16 and recipe.quant == "gptq", recipe.prune == "sparsegpt"
    factor = start = weights  # stands in for a factor where no loop asks for one
    if rounds or chooses:
        factor = torch.cat([secondorder.inverse_factor(gram[None]) for gram in grams])  # one by one takes less memory
    if chooses:
        loop = secondorder.prune(weights, factor, spec.kept, _pattern(recipe), spec.flat)
        start, mask = yield from scaled(loop, 0.0, 0.5)
    else:
        mask = torch.stack([_chosen(job.matrix, spec, recipe, _score(job, recipe)) for job in batch])
    if chooses or recipe.mends:
        weights = yield from scaled(secondorder.fit(weights, start, mask, grams), 0.5, 0.2)
    matrices = [matrix.to(dtype) for matrix in weights]
    if not rounds:
        return [_by_itself(*each, recipe) for each in zip(batch, matrices, mask, strict=True)]
    codes, grids = yield from scaled(_rounded_where_kept(weights, factor, mask, spec, batch), 0.7, 0.3)
    parts = zip(matrices, mask, grids, codes, strict=True)
    return [encode(matrix, spec, one, grid, code) for matrix, one, grid, code in parts]


Found = tuple[list[Tensor], list[tuple[Tensor, Tensor]]]  # codes and (scale, zero) of each matrix


def _rounded(weights: Tensor, grams: Sequence[Tensor], spec: Spec) -> Generator[float, None, Found]:
    """GPTQ, first the columns with the strongest inputs, whose errors then find most columns still free (the authors'
    "act-order"). Groups lie apart in that order, so their ranges are searched before."""
    grids, steps, origins, factors, orders = [], list[Tensor](), list[Tensor](), list[Tensor](), list[Tensor]()
    for matrix, gram in zip(weights, grams, strict=True):
        power = gram.diagonal()
        order = power.argsort(descending=True, stable=True)
        grids.append(encoding.search_grid(matrix, spec.bits, spec.group, power))
        for found, all_of_them in zip(grids[-1], (steps, origins), strict=True):
            all_of_them.append(_by_column(found, spec.group, len(order)).T[order])  # (m, n)
        factors.append(secondorder.inverse_factor(gram[order][:, order][None])[0])
        orders.append(order)
    step, origin = torch.stack(steps), torch.stack(origins)
    places = torch.stack(orders)[:, None].expand_as(weights)
    codes = yield from secondorder.round_off(weights.gather(2, places), torch.stack(factors), step, origin, spec.bits)
    return list(torch.empty_like(codes).scatter_(2, places, codes)), grids


def _by_column(found: Tensor, group: int, columns: int) -> Tensor:
    """Scale or zero of each group, (rows, groups), for each of its columns, (rows, columns) float32."""
    _, size = quantize.groups_of(columns, group)
    return found.float().repeat_interleave(size, dim=1)[:, :columns].contiguous()


def _rounded_where_kept(
    weights: Tensor, factor: Tensor, mask: Tensor, spec: Spec, batch: Sequence[Job]
) -> Generator[float, None, Found]:
    """GPTQ on the survivors: their groups run over kept values only, so each weight carries the grid of its group."""
    grids, steps, origins = [], list[Tensor](), list[Tensor]()
    shape, inner = spec.inner(weights.shape[1])
    for matrix, kept, job in zip(weights, mask, batch, strict=True):
        grids.append(_search(encoding.select(matrix, kept, shape), inner, job.importance, kept))
        for found, all_of_them in zip(grids[-1], (steps, origins), strict=True):
            wide = _by_column(found, inner.group, shape[1])
            all_of_them.append((encoding.spread(wide, kept) + ~kept).T)  # (m, n), 1 where nothing is kept
    step, origin = torch.stack(steps), torch.stack(origins)
    codes = yield from secondorder.round_off(weights, factor, step, origin, spec.bits, mask)
    return [encoding.select(code, kept, shape) for code, kept in zip(codes, mask, strict=True)], grids


def _mask(job: Job, recipe: Recipe, facts: Facts) -> Tensor | None:
    if job.spec.kept is None:
        return None
    plain = not job.spec.flat and recipe.pattern == "unstructured"
    ranks = job.ranks
    if plain and ranks is None and job.whole and recipe.prune in ("magnitude", "wanda"):
        ranks = facts.ranks(job.name, job.matrix, recipe.prune)
    if plain and ranks is not None:
        return prune.mask_from_ranks(ranks, job.spec.kept)
    return _chosen(job.matrix, job.spec, recipe, _score(job, recipe))


def _score(job: Job, recipe: Recipe) -> Tensor:
    return prune.score(job.matrix if job.unscaled is None else job.unscaled, job.importance, recipe.prune)


def _chosen(matrix: Tensor, spec: Spec, recipe: Recipe, score: Tensor) -> Tensor:
    assert spec.kept is not None
    if spec.flat:
        return prune.mask_of_layer(score, spec.kept)
    pattern = _pattern(recipe)
    if pattern:
        return prune.mask_of_pattern(prune.keys(score), pattern)
    return prune.mask_from_keys(prune.keys(score), spec.kept)


def _search(kept: Tensor, spec: Spec, importance: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The best range of each group of the values as they lie, weighted by the power of the input each belongs to."""
    if importance is not None and mask is not None:
        importance = encoding.select(importance.expand(mask.shape), mask, (kept.shape[0], kept.shape[1]))
    return encoding.search_grid(kept, spec.bits, spec.group, importance)


def _pattern(recipe: Recipe) -> tuple[int, int] | None:
    return prune.pattern_of(recipe.pattern)
