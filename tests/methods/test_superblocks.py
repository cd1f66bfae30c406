"""Grids of ggml's block types: the search finds good ones, and handing errors on makes the loss smaller still."""

import pytest
import torch
from torch import Tensor

from explorer.methods import superblocks
from explorer.methods.superblocks import KINDS, Kind, nearest, search
from tests.methods.losses import lost, run

COLUMNS = 512


def weight_of(seed: int, rows: int = 24) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(rows, COLUMNS, generator=noise) * torch.rand(rows, COLUMNS // 32, generator=noise).add(
        0.2
    ).repeat_interleave(32, 1)


def gram_of(seed: int) -> Tensor:
    noise = torch.Generator().manual_seed(100 + seed)
    x = torch.randn(2000, COLUMNS // 4, generator=noise) @ torch.randn(COLUMNS // 4, COLUMNS, generator=noise)
    x = (x + torch.randn(2000, COLUMNS, generator=noise)) * torch.logspace(-1, 1, COLUMNS)
    return x.T @ x / 2000


def plain(weight: Tensor, kind: Kind) -> Tensor:
    """Rounded to nearest on the range of each group, whose ends are kept in full precision: what any search must beat
    where codes are few, and come near where they are many."""
    grouped = weight.view(len(weight), -1, kind.group)
    if kind.zero is None:
        low, high = grouped.amin(-1, keepdim=True), grouped.amax(-1, keepdim=True)
        step = (high - low) / kind.top
        return (((grouped - low) / step).round() * step + low).view_as(weight)
    step = grouped.abs().amax(-1, keepdim=True) / (kind.top - kind.zero)
    return ((grouped / step).round() * step).view_as(weight)


@pytest.mark.parametrize("name", KINDS)
def test_the_search_does_better_than_the_whole_range(name: str) -> None:
    kind, weight = KINDS[name], weight_of(0)
    power = torch.logspace(-1, 1, COLUMNS)
    found = search(weight, kind, power)
    error = float((power * (found.decode(nearest(weight, found)) - weight) ** 2).sum())
    before = float((power * (plain(weight, kind) - weight) ** 2).sum())
    assert error < before * (1.02 if kind.top > 60 else 1.0)


@pytest.mark.parametrize("name", KINDS)
def test_the_inputs_decide_where_a_range_is_good(name: str) -> None:
    """Under the power that it was searched under, a grid is better than one that was searched without."""
    kind, weight = KINDS[name], weight_of(1)
    power = torch.rand(COLUMNS, generator=torch.Generator().manual_seed(5)) ** 6 + 1e-4
    errors = []
    for importance in (power, None):
        found = search(weight, kind, importance)
        errors.append(float((power * (found.decode(nearest(weight, found)) - weight) ** 2).sum()))
    assert errors[0] < errors[1]


@pytest.mark.parametrize("name", KINDS)
def test_errors_handed_on_cost_less(name: str) -> None:
    kind, weight, gram = KINDS[name], weight_of(2), gram_of(2)
    before = search(weight, kind, gram.diagonal())
    ((codes, after),) = run(superblocks.rounded(weight[None], [gram], kind))
    assert int(codes.max()) <= kind.top
    assert torch.equal(before.scales, after.scales) and torch.equal(before.scale, after.scale)
    assert lost(weight, after.decode(codes), gram) < 0.8 * lost(weight, before.decode(nearest(weight, before)), gram)


@pytest.mark.parametrize("name", KINDS)
def test_multiples_are_what_their_bits_hold(name: str) -> None:
    kind = KINDS[name]
    found = search(weight_of(3), kind)
    assert found.scale.dtype == torch.float16 and found.scale.shape == (24, COLUMNS // kind.span)
    assert found.scales.shape == (24, COLUMNS // kind.group)
    if kind.least is not None:
        assert kind.least <= int(found.scales.min()) and int(found.scales.max()) <= kind.most
        assert found.scales.abs().amax() >= kind.most  # the longest range uses them all
    if found.lows is not None:
        assert 0 <= int(found.lows.min()) and int(found.lows.max()) <= max(kind.most, 1)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("value", [0.0, 0.25, -0.25])
def test_rows_of_one_number(name: str, value: float) -> None:
    """Nothing to divide by: zeros stay zeros, and a constant is found again as nearly as half precision tells it."""
    weight = torch.full((2, COLUMNS), value)
    found = search(weight, KINDS[name])
    decoded = found.decode(nearest(weight, found))
    assert torch.allclose(decoded, weight, rtol=2e-3, atol=0)
