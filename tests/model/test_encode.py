"""One matrix to what is stored: which mask, which grid, and that neither disturbs the other."""

from collections.abc import Generator
from dataclasses import replace
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from explorer.layers.storage import Sparse, Spec, Stored
from explorer.methods import prune, quantize
from explorer.model import encode
from explorer.model.encode import Job, Order, store, store_together, together
from explorer.model.facts import Facts
from explorer.values.ranges import CHOICES
from explorer.values.recipe import Recipe

R = TypeVar("R")
ROUNDED = ("rtn", "search", "hqq", "gptq", "awq")
ZEROS = [{"scope": scope} for scope in CHOICES["scope"]] + [{"pattern": "2:4"}, {"pattern": "4:8"}]


def run(steps: Generator[float, None, R]) -> R:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def job_of(spec: Spec, seed: int = 0, name: str = "a") -> Job:
    noise = torch.Generator().manual_seed(seed)
    x = torch.randn(300, 64, generator=noise) @ torch.randn(64, 64, generator=noise)
    x *= torch.logspace(-1, 1, 64)
    gram = x.T @ x / 300
    weight = torch.randn(24, 64, generator=noise)
    return Job(name=name, place=0, matrix=weight, spec=spec, gram=gram, importance=gram.diagonal())


def order(job: Job) -> Order:
    shape = (job.matrix.shape[0], job.matrix.shape[1])
    known = job.gram is not None
    return Order(
        name=job.name,
        place=job.place,
        shape=shape,
        spec=job.spec,
        dtype=job.matrix.dtype,
        calibrated=known,
        job=lambda: job,
    )


def spec_of(recipe: Recipe) -> Spec:
    spec = Spec(bits=recipe.bits, group=recipe.group_size(recipe.bits))
    pattern = prune.pattern_of(recipe.pattern)
    if pattern or recipe.scope == "row":
        return replace(spec, kept=prune.kept_in_pattern(64, pattern) if pattern else 32)
    return replace(spec, kept=24 * 32, flat=True)


def stored_of(recipe: Recipe, seed: int = 0) -> Stored:
    job = job_of(spec_of(recipe), seed)
    batches = together([order(job)], recipe)
    return run(store_together([job], recipe))[0] if batches else store(job, recipe, Facts())


def error(stored: Stored, job: Job) -> float:
    assert job.gram is not None
    difference = stored.dense().float() - job.matrix
    return float(((difference @ job.gram) * difference).sum())


@pytest.mark.parametrize("zeros", ZEROS, ids=str)
@pytest.mark.parametrize("prune_by", CHOICES["prune"])
@pytest.mark.parametrize("quant", ROUNDED)
@pytest.mark.parametrize("bits", [2, 4])
def test_masks_survive_quantization(zeros: dict[str, str], prune_by: str, quant: str, bits: int) -> None:
    """Chosen from unrounded weights, and what is out of the mask decodes to zero."""
    plain = Recipe(sparsity=0.5, prune=prune_by, **zeros)  # type: ignore[arg-type]
    whole, rounded = stored_of(plain), stored_of(replace(plain, bits=bits, quant=quant))
    assert isinstance(whole, Sparse) and isinstance(rounded, Sparse)
    assert torch.equal(whole.bitmap, rounded.bitmap)
    mask = whole._scatter(torch.ones(whole.values())) > 0
    assert int(mask.sum()) == whole.values() == 24 * 32
    assert (rounded.dense()[~mask] == 0).all() and (rounded.dense() != 0).any()
    assert torch.equal(rounded.decoded(), rounded.dense())


@pytest.mark.parametrize("prune_by", CHOICES["prune"])
@pytest.mark.parametrize("quant, finds", [("rtn", quantize.round_to_nearest), ("hqq", quantize.hqq)])
def test_what_pruning_left_is_rounded_as_the_recipe_says(prune_by: str, quant: str, finds: object) -> None:
    """Not by handing errors on, where nobody asked for that."""
    plain = Recipe(sparsity=0.5, prune=prune_by)
    whole, rounded = stored_of(plain), stored_of(replace(plain, bits=3, quant=quant))
    assert isinstance(whole, Sparse) and isinstance(rounded, Sparse)
    codes, scale, zero = finds(whole.kept.dense(), 3, 64)  # type: ignore[operator]
    assert torch.equal(rounded.kept.dense(), quantize.dequantize(codes, scale, zero, 64, torch.float32))


@pytest.mark.parametrize("zeros", [None, *ZEROS], ids=str)
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_gptq_is_nearer_than_the_search_is_nearer_than_the_range(zeros: dict[str, str] | None, bits: int) -> None:
    """For one mask, in the norm of the inputs, on average over seeds."""
    sums = [0.0, 0.0, 0.0]
    for seed in range(5):
        found = []
        for quant in ("gptq", "search", "rtn"):
            recipe = Recipe(bits=bits, quant=quant, **({"sparsity": 0.5, **zeros} if zeros else {}))  # type: ignore[arg-type]
            spec = spec_of(recipe) if zeros else Spec(bits=bits)
            job = job_of(spec, seed)
            batches = together([order(job)], recipe)
            stored = run(store_together([job], recipe))[0] if batches else store(job, recipe, Facts())
            found.append(error(stored, job))
        sums = [total + each for total, each in zip(sums, found, strict=True)]
    assert sums[0] < sums[1] < sums[2]


def test_scaled_columns_have_the_masks_of_unscaled_ones() -> None:
    """Whatever AWQ does to the weights, pruning sees what they were."""
    scale = torch.logspace(-1, 1, 64)[torch.randperm(64)]
    for prune_by in ("magnitude", "wanda", "ria"):
        recipe = Recipe(sparsity=0.5, prune=prune_by, bits=4, quant="awq")
        job = job_of(spec_of(recipe))
        scaled = replace(job, matrix=job.matrix * scale, unscaled=job.matrix)
        one, other = store(job, recipe, Facts()), store(scaled, recipe, Facts())
        assert isinstance(one, Sparse) and isinstance(other, Sparse) and torch.equal(one.bitmap, other.bitmap)


def test_gptq_goes_by_the_power_of_the_inputs_not_by_their_order() -> None:
    """With one range a row, columns in another order are the same matrix in another order."""
    recipe, job = Recipe(bits=3, quant="gptq", group="0"), job_of(Spec(bits=3, group=0), 5)
    assert job.gram is not None
    other = torch.randperm(job.matrix.shape[1], generator=torch.Generator().manual_seed(1))
    turned = replace(job, matrix=job.matrix[:, other], gram=job.gram[other][:, other])
    one, two = (run(store_together([each], recipe))[0].dense() for each in (job, turned))
    assert (one[:, other] == two).float().mean() > 0.99  # a tie in rounding may fall otherwise
    assert error(run(store_together([job], recipe))[0], job) < error(
        store(job, replace(recipe, quant="search"), Facts()), job
    )


def test_those_whose_errors_are_handed_on_go_together_by_shape_and_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    gptq, zeros = Recipe(bits=4, quant="gptq"), Recipe(sparsity=0.5, prune="sparsegpt", bits=4)
    same = [job_of(Spec(bits=4), seed, name=str(seed)) for seed in range(3)]
    other, unseen = job_of(Spec(bits=3), 7), replace(job_of(Spec(bits=4), 8), gram=None)
    batches = together([order(job) for job in (*same, other, unseen)], gptq)
    orders = [order(job) for job in same]
    assert [[job.name for job in batch] for batch in batches] == [["0", "1", "2"], ["a"]]
    assert together(orders, zeros) == [] and together(orders, Recipe(bits=4)) == []
    assert together([order(replace(same[0], spec=Spec(format="nf4")))], gptq) == []
    monkeypatch.setattr(encode, "BATCH_BYTES", 12 * 64 * (64 + same[0].matrix.shape[0]) * 2)
    assert [len(batch) for batch in together(orders, gptq)] == [2, 1]


@pytest.mark.parametrize(
    "recipe", [Recipe(bits=3, quant="gptq"), Recipe(sparsity=0.5, prune="sparsegpt", scope="layer")]
)
def test_together_is_each_alone(recipe: Recipe) -> None:
    spec = spec_of(recipe) if recipe.sparsity else Spec(bits=3)
    jobs = [job_of(spec, seed, name=str(seed)) for seed in range(3)]
    for job, stored in zip(jobs, run(store_together(jobs, recipe)), strict=True):
        alone = run(store_together([job], recipe))[0]
        torch.testing.assert_close(stored.dense(), alone.dense(), rtol=1e-3, atol=1e-3)


def test_a_grid_that_is_known_is_the_one_that_is_searched() -> None:
    recipe, facts = Recipe(bits=4), Facts()
    job = replace(job_of(Spec(bits=4)), importance=None, gram=None)
    kept, fresh = store(replace(job, whole=True), recipe, facts), store(job, recipe, facts)
    assert torch.equal(kept.dense(), fresh.dense()) and [key for key in facts._kept if key.startswith("a|grid.4.64")]


def ranks_of(weight: Tensor) -> Tensor:
    return prune.ranks(prune.keys(weight.abs()))


def test_ranks_that_are_known_decide() -> None:
    job = job_of(Spec(kept=16))
    known = ranks_of(torch.rand(24, 64))
    stored = store(replace(job, ranks=known), Recipe(sparsity=0.75, prune="magnitude"), Facts())
    assert torch.equal(stored.dense() != 0, known >= 48)
