"""Two thin factors: the best ones of their rank."""

import pytest
import torch
from torch import Tensor

from explorer.methods import factorize
from explorer.values.ranges import KEEP

SHAPES = [(40, 64), (64, 40), (48, 48), (7, 100)]


def weight_of(shape: tuple[int, int]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("shape", SHAPES)
def test_full_rank_gives_the_weight_back(shape: tuple[int, int]) -> None:
    weight = weight_of(shape)
    left, right, _ = factorize.spectrum(weight)
    assert left.shape[1] == right.shape[0] == min(shape)
    assert torch.allclose(left @ right, weight, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 3, 6])
def test_the_error_of_a_rank_is_the_tail_of_the_singular_values(shape: tuple[int, int], rank: int) -> None:
    weight = weight_of(shape)
    left, right, _ = factorize.spectrum(weight)
    error = (left[:, :rank] @ right[:rank] - weight).norm()
    tail = torch.linalg.svdvals(weight)[rank:].norm()
    assert torch.isclose(error, tail, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_lower_rank_is_a_slice_of_a_higher_one(shape: tuple[int, int]) -> None:
    whole, part = factorize.spectrum(weight_of(shape)), factorize.spectrum(weight_of(shape), 5)
    assert torch.allclose(whole[0][:, :5], part[0], atol=1e-5) and torch.allclose(whole[1][:5], part[1], atol=1e-4)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1), (1, 50), (576, 1536), (49152, 576)])
def test_factors_never_hold_more_than_may_be_kept(shape: tuple[int, int]) -> None:
    rows, columns = shape
    for i in range(17):
        keep = KEEP.low + i * KEEP.step
        rank = factorize.rank_for(rows, columns, keep)
        assert rank >= 1
        assert rank == 1 or rank * (rows + columns) <= keep * rows * columns + 1e-6
        assert rank < 4 or rank % 4 == 0
        assert rank <= max(1, factorize.highest_rank(rows, columns))


def test_keeping_more_never_gives_a_lower_rank() -> None:
    ranks = [factorize.rank_for(576, 1536, KEEP.low + i * KEEP.step) for i in range(17)]
    assert ranks == sorted(ranks) and ranks[0] < ranks[-1]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_matrix_of_zeros_gives_finite_factors_of_zero(shape: tuple[int, int]) -> None:
    left, right, _ = factorize.spectrum(torch.zeros(shape, dtype=torch.bfloat16))
    assert left.isfinite().all() and right.isfinite().all()
    assert (left @ right == 0).all()


def test_a_matrix_of_rank_one_needs_one_direction() -> None:
    weight = torch.outer(torch.randn(30), torch.randn(20))
    left, right, _ = factorize.spectrum(weight, 1)
    assert torch.allclose(left @ right, weight, atol=1e-4)


def gram_of(columns: int, seed: int = 0, tokens: int = 200) -> Tensor:
    """E[x xᵀ] of inputs that hang together and differ in power."""
    noise = torch.Generator().manual_seed(seed)
    mixed = torch.randn(tokens, columns, generator=noise) @ torch.randn(columns, columns, generator=noise)
    x = mixed * torch.logspace(-1, 1, columns)[torch.randperm(columns, generator=noise)]
    return x.T @ x / tokens


def lost(weight: Tensor, approximate: Tensor, gram: Tensor, outputs: Tensor | None = None) -> float:
    """tr(G D H Dᵀ)."""
    difference = (weight - approximate).double()
    inner = difference @ gram.double() @ difference.T
    return float(inner.trace() if outputs is None else (outputs.double() @ inner).trace())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 3, 6])
@pytest.mark.parametrize("felt", [False, True])
def test_the_error_in_the_norm_of_the_inputs_is_the_tail(shape: tuple[int, int], rank: int, felt: bool) -> None:
    weight, gram = weight_of(shape), gram_of(shape[1])
    outputs = gram_of(shape[0], seed=1) if felt else None
    left, right, values = factorize.spectrum(weight, None, gram, outputs)
    norm = None if outputs is None else outputs + outputs.diagonal().mean() * torch.eye(len(outputs))  # as it is used
    error = lost(weight, left[:, :rank] @ right[:rank], gram, norm)
    assert error == pytest.approx(float(values[rank:].double().sum()), rel=0.01)
    assert error > 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("felt", [False, True])
def test_full_rank_gives_the_weight_back_by_every_method(shape: tuple[int, int], felt: bool) -> None:
    weight, gram = weight_of(shape), gram_of(shape[1])
    outputs = gram_of(shape[0], seed=1) if felt else None
    for inputs in (gram, gram.diagonal().sqrt(), None):
        left, right, _ = factorize.spectrum(weight, None, inputs, outputs)
        torch.testing.assert_close(left @ right, weight, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_serve_as_well_as_the_sum_of_their_squares(shape: tuple[int, int]) -> None:
    weight, gram = weight_of(shape), gram_of(shape[1])
    g = torch.randn(5, shape[0], generator=torch.Generator().manual_seed(3))
    by_rows, by_sum = (factorize.spectrum(weight, 6, gram, outputs) for outputs in (g, g.T @ g))
    torch.testing.assert_close(by_rows[0] @ by_rows[1], by_sum[0] @ by_sum[1], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(by_rows[2][:6], by_sum[2][:6], rtol=1e-4, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_covariance_beats_asvd_beats_svd(shape: tuple[int, int]) -> None:
    """Covariance always, since it is the optimum; ASVD on average over models."""
    sums = [0.0, 0.0, 0.0]
    for seed in range(8):
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        gram = gram_of(shape[1], seed)
        found = []
        for inputs in (gram, gram.diagonal().sqrt(), None):
            left, right, _ = factorize.spectrum(weight, 4, inputs)
            found.append(lost(weight, left @ right, gram))
        assert found[0] <= min(found[1:]) * (1 + 1e-5)
        sums = [total + error / found[2] for total, error in zip(sums, found, strict=True)]
    assert sums[0] < sums[1] < sums[2]


def test_what_the_loss_feels_is_lost_last() -> None:
    """Given E[g gᵀ], the error in its norm is less than without it."""
    weight, gram = weight_of((40, 64)), gram_of(64)
    outputs = gram_of(40, seed=1)
    norm = outputs + outputs.diagonal().mean() * torch.eye(40)
    blind, seeing = (factorize.spectrum(weight, 6, gram, given)[:2] for given in (None, outputs))
    assert lost(weight, seeing[0] @ seeing[1], gram, norm) < 0.99 * lost(weight, blind[0] @ blind[1], gram, norm)
    assert lost(weight, blind[0] @ blind[1], gram) < lost(weight, seeing[0] @ seeing[1], gram)


@pytest.mark.parametrize("shape", [(40, 64), (64, 40)])
def test_inputs_that_never_fire_leave_finite_factors(shape: tuple[int, int]) -> None:
    gram = gram_of(shape[1])
    gram[:5], gram[:, :5] = 0, 0
    for inputs in (gram, gram.diagonal().sqrt(), torch.zeros_like(gram)):
        left, right, values = factorize.spectrum(weight_of(shape), 6, inputs, torch.zeros(shape[0], shape[0]))
        assert left.isfinite().all() and right.isfinite().all() and values.isfinite().all()


def spectra(shapes: list[tuple[int, int]]) -> list[Tensor]:
    """Of steep and of flat matrices in turn."""
    return [torch.logspace(3, -3 if i % 2 else 2.5, min(shape)) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.8, 0.95, 1.0])
def test_one_budget_is_never_exceeded(keep: float) -> None:
    shapes = [(64, 64), (64, 128), (128, 64), (32, 64), (64, 64), (96, 40)]
    ranks = factorize.allocate(spectra(shapes), shapes, keep)
    held = [n * m if rank == 0 else rank * (n + m) for rank, (n, m) in zip(ranks, shapes, strict=True)]
    assert sum(held) <= keep * sum(n * m for n, m in shapes)
    assert all(rank < factorize.highest_rank(*shape) for rank, shape in zip(ranks, shapes, strict=True))
    assert all(rank % (8 if keep > 0.25 else 4) == 0 for rank in ranks)
    if keep == 1.0:
        assert 0 in ranks  # passed break-even: left whole
    if keep == 0.5:
        assert len(set(ranks)) > 1 and sum(held) > 0.4 * sum(n * m for n, m in shapes)


def test_one_budget_loses_less_than_equal_shares() -> None:
    shapes = [(64, 64)] * 6
    found = spectra(shapes)
    ranks = factorize.allocate(found, shapes, 0.6)
    uniform = factorize.rank_for(64, 64, 0.6)
    tails = [sum(float(values[r:].sum()) if r else 0.0 for values, r in zip(found, each, strict=True))
             for each in (ranks, [uniform] * 6)]  # fmt: skip
    assert tails[0] < tails[1]
