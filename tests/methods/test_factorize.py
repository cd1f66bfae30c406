"""Two thin factors: the best ones of their rank."""

import pytest
import torch
from torch import Tensor

from explorer.methods import factorize
from explorer.recipe import KEEP

SHAPES = [(40, 64), (64, 40), (48, 48), (7, 100)]


def weight_of(shape: tuple[int, int]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("shape", SHAPES)
def test_full_rank_gives_the_weight_back(shape: tuple[int, int]) -> None:
    weight = weight_of(shape)
    left, right = factorize.spectrum(weight)
    assert left.shape[1] == right.shape[0] == min(shape)
    assert torch.allclose(left @ right, weight, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 3, 6])
def test_the_error_of_a_rank_is_the_tail_of_the_singular_values(shape: tuple[int, int], rank: int) -> None:
    weight = weight_of(shape)
    left, right = factorize.spectrum(weight)
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
        assert rank < 8 or rank % 8 == 0
        assert rank <= max(1, factorize.highest_rank(rows, columns))


def test_keeping_more_never_gives_a_lower_rank() -> None:
    ranks = [factorize.rank_for(576, 1536, KEEP.low + i * KEEP.step) for i in range(17)]
    assert ranks == sorted(ranks) and ranks[0] < ranks[-1]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_matrix_of_zeros_gives_finite_factors_of_zero(shape: tuple[int, int]) -> None:
    left, right = factorize.spectrum(torch.zeros(shape, dtype=torch.bfloat16))
    assert left.isfinite().all() and right.isfinite().all()
    assert (left @ right == 0).all()


def test_a_matrix_of_rank_one_needs_one_direction() -> None:
    weight = torch.outer(torch.randn(30), torch.randn(20))
    left, right = factorize.spectrum(weight, 1)
    assert torch.allclose(left @ right, weight, atol=1e-4)
