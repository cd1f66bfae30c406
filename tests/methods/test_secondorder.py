"""Errors handed on: in the norm of the inputs nothing gets worse by it, and without correlation nothing changes."""

import pytest
import torch
from torch import Tensor

from explorer.methods import prune, quantize, secondorder
from tests.methods.losses import lost, run

SEEDS = range(6)
SHAPE = (24, 96)  # three blocks of columns


def weight_of(seed: int, shape: tuple[int, int] = SHAPE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gram_of(seed: int, columns: int = SHAPE[1]) -> Tensor:
    """E[x xᵀ] of inputs that hang together and differ in power."""
    noise = torch.Generator().manual_seed(100 + seed)
    mixed = torch.randn(300, columns // 3, generator=noise) @ torch.randn(columns // 3, columns, generator=noise)
    x = mixed + torch.randn(300, columns, generator=noise)
    x *= torch.logspace(-1, 1, columns)[torch.randperm(columns, generator=noise)]
    return x.T @ x / 300


def pruned(weight: Tensor, gram: Tensor, kept: int, **how: object) -> tuple[Tensor, Tensor]:
    factor = secondorder.inverse_factor(gram[None])
    mended, mask = run(secondorder.prune(weight[None], factor, kept, **how))  # type: ignore[arg-type]
    return mended[0], mask[0]


def rounded(weight: Tensor, gram: Tensor, bits: int, group: int) -> tuple[Tensor, Tensor]:
    """GPTQ on the grid of round-to-nearest: codes, and the weights they stand for."""
    scale, zero = quantize.grid(weight, bits, group)
    _, size = quantize.groups_of(weight.shape[1], group)
    step, origin = (part.repeat_interleave(size, 1)[:, : weight.shape[1]].T[None] for part in (scale, zero))
    codes = run(secondorder.round_off(weight[None], secondorder.inverse_factor(gram[None]), step, origin, bits))[0]
    return codes, quantize.dequantize(codes, scale, zero, group, torch.float32)


def test_the_factor_is_that_of_the_damped_inverse() -> None:
    gram = gram_of(0)
    upper = secondorder.inverse_factor(gram[None])[0].double()
    damped = gram.double() + secondorder.DAMPING * gram.double().diagonal().mean() * torch.eye(SHAPE[1])
    assert torch.equal(upper, upper.triu())
    torch.testing.assert_close(upper.T @ upper @ damped, torch.eye(SHAPE[1]).double(), rtol=0, atol=2e-3)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group", [32, 64, 0])
def test_gptq_with_a_diagonal_gram_is_round_to_nearest(bits: int, group: int) -> None:
    weight, gram = weight_of(1), torch.diag(torch.rand(SHAPE[1]) + 0.1)
    codes, _ = rounded(weight, gram, bits, group)
    nearest, _, _ = quantize.round_to_nearest(weight, bits, group)
    assert torch.equal(codes, nearest)
    assert not torch.equal(rounded(weight, gram_of(1), bits, group)[0], nearest)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("group", [32, 0])
def test_gptq_is_nearer_than_round_to_nearest(bits: int, group: int) -> None:
    for seed in SEEDS:
        weight, gram = weight_of(seed), gram_of(seed)
        codes, scale, zero = quantize.round_to_nearest(weight, bits, group)
        nearest = quantize.dequantize(codes, scale, zero, group, torch.float32)
        assert lost(weight, rounded(weight, gram, bits, group)[1], gram) < 0.9 * lost(weight, nearest, gram)


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.7])
def test_sparsegpt_is_nearer_than_wanda_is_nearer_than_magnitude(sparsity: float) -> None:
    kept = prune.kept_columns(SHAPE[1], sparsity)
    sums = [0.0, 0.0]
    for seed in SEEDS:
        weight, gram = weight_of(seed), gram_of(seed)
        scores = prune.wanda(weight, gram.diagonal()), weight.abs()
        wanda, magnitude = (
            lost(
                weight,
                weight * prune.mask_from_keys(prune.keys(score), prune.kept_columns(weight.shape[1], sparsity)),
                gram,
            )
            for score in scores
        )
        assert lost(weight, pruned(weight, gram, kept)[0], gram) < wanda
        sums = [sums[0] + wanda, sums[1] + magnitude]
    assert sums[0] < sums[1]


@pytest.mark.parametrize("columns", [96, 300, 129, 20])
@pytest.mark.parametrize("sparsity", [0.05, 0.5, 0.9])
def test_every_row_keeps_so_many(columns: int, sparsity: float) -> None:
    weight, kept = weight_of(2, (10, columns)), prune.kept_columns(columns, sparsity)
    mended, mask = pruned(weight, gram_of(2, columns), kept)
    assert mask.sum(1).tolist() == [kept] * 10
    assert (mended[~mask] == 0).all() and mended.isfinite().all()


@pytest.mark.parametrize("columns", [96, 300, 129])
@pytest.mark.parametrize("sparsity", [0.05, 0.5, 0.9])
def test_a_whole_matrix_keeps_so_many(columns: int, sparsity: float) -> None:
    weight, gram = weight_of(2, (10, columns)), gram_of(2, columns)
    weight[0] *= 10
    kept = round(10 * columns * (1 - sparsity))
    mended, mask = pruned(weight, gram, kept, flat=True)
    assert int(mask.sum()) == kept and (mended[~mask] == 0).all() and mended.isfinite().all()
    assert mask[0].sum() > mask[1:].float().sum(1).mean()  # rows may differ, the loud one keeps more


def test_zeros_go_where_they_cost_least_and_not_to_every_stretch_alike() -> None:
    weight = weight_of(0, (24, 320)) * torch.where(torch.arange(320) < 160, 0.01, 1.0)
    _, mask = pruned(weight, torch.eye(320), 160)
    assert mask[:, :160].float().mean() < 0.05 and mask[:, 160:].float().mean() > 0.95


@pytest.mark.parametrize("pattern", [(2, 4), (4, 8)])
@pytest.mark.parametrize("columns", [96, 101, 301])
def test_a_pattern_keeps_exactly_n_of_every_m(pattern: tuple[int, int], columns: int) -> None:
    kept, size = pattern
    weight, gram = weight_of(3, (10, columns)), gram_of(3, columns)
    mended, mask = pruned(weight, gram, prune.kept_in_pattern(columns, pattern), pattern=pattern)
    whole = columns // size * size
    assert (mask[:, :whole].reshape(10, -1, size).sum(2) == kept).all()
    assert mask.sum(1).tolist() == [prune.kept_in_pattern(columns, pattern)] * 10
    by_wanda = prune.mask_of_pattern(prune.keys(prune.wanda(weight, gram.diagonal())), pattern)
    assert lost(weight, mended, gram) < lost(weight, weight * by_wanda, gram)


def test_many_of_one_shape_go_through_it_as_each_alone() -> None:
    weights = torch.stack([weight_of(seed) for seed in range(3)])
    grams = torch.stack([gram_of(seed) for seed in range(3)])
    together, masks = run(secondorder.prune(weights, secondorder.inverse_factor(grams), 48))
    for place in range(3):
        mended, mask = pruned(weights[place], grams[place], 48)
        assert torch.equal(masks[place], mask)
        torch.testing.assert_close(together[place], mended, rtol=1e-4, atol=1e-5)


def test_what_a_mask_left_out_stays_out_and_the_rest_makes_up_for_it() -> None:
    weight, gram = weight_of(4), gram_of(4)
    mask = prune.mask_from_keys(prune.keys(prune.wanda(weight, gram.diagonal())), weight.shape[1] // 2)
    scale, zero = quantize.grid(weight * mask, 4, 0)
    factor = secondorder.inverse_factor(gram[None])
    codes = run(secondorder.round_off(weight[None], factor, scale.T[None], zero.T[None], 4, mask[None]))[0]
    found = quantize.dequantize(codes, scale, zero, 0, torch.float32) * mask
    nearest = quantize.dequantize(quantize.round_on(weight, scale, zero, 4, 0), scale, zero, 0, torch.float32) * mask
    assert lost(weight, found, gram) < 0.9 * lost(weight, nearest, gram)


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.7])
def test_what_stays_makes_up_for_zeros_that_are_given(sparsity: float) -> None:
    weight, gram = weight_of(6), gram_of(6)
    mask = prune.mask_from_keys(
        prune.keys(prune.wanda(weight, gram.diagonal())), prune.kept_columns(weight.shape[1], sparsity)
    )
    found = run(secondorder.fit(weight[None], weight[None], mask[None], [gram]))[0]
    assert (found[~mask] == 0).all()
    assert lost(weight, found, gram) < 0.7 * lost(weight, weight * mask, gram)


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.7])
def test_what_stays_is_fitted_nearer_than_column_by_column(sparsity: float) -> None:
    weight, gram = weight_of(6), gram_of(6)
    handed_on, mask = pruned(weight, gram, prune.kept_columns(weight.shape[1], sparsity))
    found = run(secondorder.fit(weight[None], handed_on[None], mask[None], [gram]))[0]
    assert (found[~mask] == 0).all() and lost(weight, found, gram) < lost(weight, handed_on, gram)


def test_fitted_for_long_it_is_the_least_squares_of_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secondorder, "FIT_STEPS", 60)
    weight, gram = weight_of(7).double(), gram_of(7).double()
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    found = run(secondorder.fit(weight[None], weight[None], mask[None], [gram]))[0]
    damped = gram + secondorder.FIT_DAMPING * gram.diagonal().mean() * torch.eye(len(gram))
    for row, kept, ours in zip(weight, mask, found, strict=True):
        best = torch.linalg.solve(damped[kept][:, kept], damped[kept] @ row)
        torch.testing.assert_close(ours[kept], best, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("gram", [torch.zeros(96, 96), torch.ones(96, 96), torch.diag(torch.arange(96.0) % 2)])
def test_inputs_that_tell_nothing_leave_finite_weights(gram: Tensor) -> None:
    weight = weight_of(5)
    mended, mask = pruned(weight, gram, 48)
    assert mended.isfinite().all() and mask.sum(1).tolist() == [48] * 24
    assert run(secondorder.fit(weight[None], mended[None], mask[None], [gram])).isfinite().all()
    codes, values = rounded(weight, gram, 3, 32)
    assert values.isfinite().all()
    if not gram.any():
        assert torch.equal(codes, quantize.round_to_nearest(weight, 3, 32)[0])


def test_it_tells_how_far_it_is() -> None:
    shares = list(secondorder.prune(weight_of(0)[None], secondorder.inverse_factor(gram_of(0)[None]), 48))
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) == 3


def test_few_tokens_steady_the_inverse() -> None:
    x = torch.randn(8, 32)
    gram = x.T @ x / 8
    few, enough = secondorder.steadied(gram, 8), secondorder.steadied(gram, 32)
    assert enough is gram
    more = (few - gram).diagonal()
    assert torch.allclose(more, torch.full((32,), 4 * secondorder.DAMPING * float(gram.diagonal().mean())))
