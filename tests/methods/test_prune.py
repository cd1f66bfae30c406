"""Scores to masks, row by row."""

import pytest
import torch
from torch import Tensor

from explorer.methods import prune
from explorer.recipe import SPARSITY

SHARES = [SPARSITY.low + i * SPARSITY.step for i in range(19)]


def weights(kind: str, columns: int = 48) -> Tensor:
    draws = torch.randn(7, columns, generator=torch.Generator().manual_seed(3))
    return {
        "float32": draws,
        "bfloat16": draws.bfloat16(),
        "ties": (draws.sign() * 0.5).bfloat16(),
        "few values": draws.round(decimals=0),
        "zeros": torch.zeros(7, columns, dtype=torch.bfloat16),
    }[kind]


KINDS = ["float32", "bfloat16", "ties", "few values", "zeros"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sparsity", SHARES)
def test_both_ways_to_a_mask_agree_ties_included(kind: str, sparsity: float) -> None:
    keys = prune.magnitude_keys(weights(kind))
    assert torch.equal(prune.mask_from_ranks(prune.ranks(keys), sparsity), prune.mask_from_keys(keys, sparsity))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [1, 2, 10, 48, 101])
@pytest.mark.parametrize("sparsity", [0.05, 0.5, 0.9])
def test_every_row_keeps_exactly_kept_columns(kind: str, columns: int, sparsity: float) -> None:
    mask = prune.mask_from_keys(prune.magnitude_keys(weights(kind, columns)), sparsity)
    assert mask.sum(1).tolist() == [prune.kept_columns(columns, sparsity)] * 7


@pytest.mark.parametrize("columns", [1, 2, 3, 10, 576])
def test_a_row_keeps_at_least_one_weight_and_about_its_share(columns: int) -> None:
    for sparsity in SHARES:
        kept = prune.kept_columns(columns, sparsity)
        assert 1 <= kept <= columns
        assert abs(kept - columns * (1 - sparsity)) <= 0.5 + 1e-9 or kept == 1


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "few values"])
def test_no_pruned_weight_is_larger_than_a_kept_one_of_its_row(kind: str) -> None:
    weight = weights(kind)
    mask = prune.mask_from_keys(prune.magnitude_keys(weight), 0.5)
    size = weight.abs().float()
    assert (size.masked_fill(mask, 0).amax(1) <= size.masked_fill(~mask, torch.inf).amin(1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_higher_sparsity_keeps_a_lower_one_keeps_too(kind: str) -> None:
    keys = prune.magnitude_keys(weights(kind))
    masks = [prune.mask_from_keys(keys, sparsity) for sparsity in SHARES]
    for looser, stricter in zip(masks, masks[1:], strict=False):
        assert (looser | ~stricter).all()


@pytest.mark.parametrize("kind", KINDS)
def test_keys_order_like_sizes_and_none_is_used_twice(kind: str) -> None:
    weight = weights(kind)
    keys = prune.magnitude_keys(weight)
    assert all(row.unique().numel() == row.numel() for row in keys)
    ordered = weight.abs().float().gather(1, keys.argsort(1))
    assert (ordered.diff(dim=1) >= 0).all()


def test_ranks_are_places_and_fit_wide_rows() -> None:
    weight = torch.randn(2, 2**16 + 8).bfloat16()  # wider than 16 bits can count
    places = prune.ranks(prune.magnitude_keys(weight)).long()
    assert torch.equal(places.sort(1).values, torch.arange(2**16 + 8).expand(2, -1))
