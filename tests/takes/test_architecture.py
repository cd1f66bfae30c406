"""Weights of a decoder, counted by hand."""

from dataclasses import replace

import pytest

from explorer.takes.architecture import Architecture, active_parameters, parameters

SMALL = Architecture(
    layers=2, hidden=4, intermediate=6, heads=2, kv_heads=1, head_size=2, vocabulary=10, context=16, tied=True
)
ATTENTION, MLP, NORMS = 4 * (4 + 2 + 2 + 4), 3 * 4 * 6, 2 * 2 * 4 + 4


def test_a_dense_model_is_counted_matrix_by_matrix() -> None:
    assert parameters(SMALL) == 2 * (ATTENTION + MLP) + 10 * 4 + NORMS
    assert parameters(replace(SMALL, tied=False)) - parameters(SMALL) == 10 * 4
    assert active_parameters(SMALL) == parameters(SMALL)


def test_a_token_meets_only_its_experts_and_the_router() -> None:
    mixture = replace(SMALL, experts=8, active_experts=2)
    router = 4 * 8
    assert mixture.matrices == 2 * (ATTENTION + router + 8 * MLP)
    assert mixture.active_matrices == 2 * (ATTENTION + router + 2 * MLP)
    assert parameters(mixture) - active_parameters(mixture) == 2 * 6 * MLP


def test_a_large_batch_meets_every_expert() -> None:
    mixture = replace(SMALL, experts=8, active_experts=2)
    assert mixture.matrices_met(1) == mixture.active_matrices
    assert mixture.matrices_met(1000) == pytest.approx(mixture.matrices)


def test_windowed_layers_look_no_further_than_their_window() -> None:
    windowed = replace(SMALL, windowed=1, window=5)
    assert [windowed.attended(n) for n in (3, 5, 9)] == [6, 10, 14]


@pytest.mark.parametrize(
    "wrong", [{"kv_heads": 3}, {"experts": 2}, {"experts": 2, "active_experts": 3}, {"windowed": 3}]
)
def test_dimensions_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        replace(SMALL, **wrong)  # type: ignore[arg-type]
