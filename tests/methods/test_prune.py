"""Scores to masks, row by row."""

import pytest
import torch
from torch import Tensor

from explorer.methods import prune
from explorer.values.ranges import CHOICES, SPARSITY

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
    keys = prune.keys(weights(kind).abs())
    kept = prune.kept_columns(keys.shape[1], sparsity)
    assert torch.equal(prune.mask_from_ranks(prune.ranks(keys), kept), prune.mask_from_keys(keys, kept))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [1, 2, 10, 48, 101])
@pytest.mark.parametrize("sparsity", [0.05, 0.5, 0.9])
def test_every_row_keeps_exactly_kept_columns(kind: str, columns: int, sparsity: float) -> None:
    mask = prune.mask_from_keys(prune.keys(weights(kind, columns).abs()), prune.kept_columns(columns, sparsity))
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
    mask = prune.mask_from_keys(prune.keys(weight.abs()), prune.kept_columns(weight.shape[1], 0.5))
    size = weight.abs().float()
    assert (size.masked_fill(mask, 0).amax(1) <= size.masked_fill(~mask, torch.inf).amin(1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_higher_sparsity_keeps_a_lower_one_keeps_too(kind: str) -> None:
    keys = prune.keys(weights(kind).abs())
    masks = [prune.mask_from_keys(keys, prune.kept_columns(keys.shape[1], sparsity)) for sparsity in SHARES]
    for looser, stricter in zip(masks, masks[1:], strict=False):
        assert (looser | ~stricter).all()


@pytest.mark.parametrize("kind", KINDS)
def test_keys_order_like_sizes_and_none_is_used_twice(kind: str) -> None:
    weight = weights(kind)
    keys = prune.keys(weight.abs())
    assert all(row.unique().numel() == row.numel() for row in keys)
    ordered = weight.abs().float().gather(1, keys.argsort(1))
    assert (ordered.diff(dim=1) >= 0).all()


def test_ranks_are_places_and_fit_wide_rows() -> None:
    weight = torch.randn(2, 2**16 + 8).bfloat16()  # wider than 16 bits can count
    places = prune.ranks(prune.keys(weight.abs())).long()
    assert torch.equal(places.sort(1).values, torch.arange(2**16 + 8).expand(2, -1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", ["2:4", "4:8", "1:4"])
@pytest.mark.parametrize("columns", [48, 101, 5, 3])
def test_a_pattern_keeps_exactly_n_of_every_m(kind: str, pattern: str, columns: int) -> None:
    found = prune.pattern_of(pattern)
    assert found
    kept, size = found
    mask = prune.mask_of_pattern(prune.keys(weights(kind, columns).abs()), found)
    whole = columns // size * size
    assert (mask[:, :whole].reshape(7, -1, size).sum(2) == kept).all()
    assert mask.sum(1).tolist() == [prune.kept_in_pattern(columns, found)] * 7
    assert prune.kept_in_pattern(columns, found) - whole // size * kept == -(-(columns - whole) * kept // size)


def test_a_pattern_keeps_the_largest_of_its_neighbours() -> None:
    row = torch.tensor([[1.0, 4.0, 3.0, 2.0, 9.0, 8.0, 0.0, 7.0, 5.0, 6.0]])
    mask = prune.mask_of_pattern(prune.keys(row), (2, 4))
    assert row[mask].tolist() == [4.0, 3.0, 9.0, 8.0, 6.0]
    assert prune.pattern_of("unstructured") is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [1, 7, 100, 335, 336])
def test_a_whole_layer_keeps_exactly_so_many_and_the_largest(kind: str, kept: int) -> None:
    score = weights(kind).abs()
    mask = prune.mask_of_layer(score, kept)
    assert int(mask.sum()) == kept
    assert kept == mask.numel() or score[mask].min() >= score[~mask].max()


def test_one_threshold_for_all_matrices() -> None:
    scores = [torch.rand(20, 30), 3 * torch.rand(10, 10), 0.01 * torch.rand(5, 5)]
    lost = prune.share_below(scores, 0.4)
    everything = torch.cat([score.flatten() for score in scores]).sort().values
    threshold = everything[round(0.4 * len(everything))]
    expected = [min(int((score < threshold).sum()), score.numel() - 1) for score in scores]
    assert all(abs(found - want) <= 1 for found, want in zip(lost, expected, strict=True))
    assert lost[2] == 24 and lost[1] < 0.4 * 100  # a matrix always keeps one
    assert prune.share_below(scores, 0.0) == [0, 0, 0]
    assert prune.share_below([torch.zeros(3, 3), torch.zeros(2, 2)], 0.5) == [0, 0]  # no order, so none goes


def test_wanda_and_ria_are_their_formulas() -> None:
    weight, power = torch.tensor([[3.0, -1.0], [1.0, 2.0]]), torch.tensor([4.0, 16.0])
    assert prune.wanda(weight, power).tolist() == [[6.0, 4.0], [2.0, 8.0]]
    shares = torch.tensor([[3 / 4 + 3 / 4, 1 / 4 + 1 / 3], [1 / 3 + 1 / 4, 2 / 3 + 2 / 3]])
    torch.testing.assert_close(prune.ria(weight, power), shares * torch.tensor([4.0, 16.0]) ** 0.25)
    assert prune.ria(torch.zeros(2, 2), power).isfinite().all()


def test_every_method_of_a_recipe_has_its_score_and_no_other_name_has_one() -> None:
    weight, importance = torch.randn(4, 8), torch.rand(8)
    assert {*prune.SCORES, "magnitude"} == {*CHOICES["prune"]}
    for method in CHOICES["prune"]:
        assert (prune.score(weight, importance, method) >= 0).all()
        assert torch.equal(prune.score(weight, None, method), weight.abs())
    with pytest.raises(KeyError):
        prune.score(weight, importance, "unheard of")
