"""What is dropped, what makes up for it, and that the promises of each method hold on plain tensors."""

import pytest
import torch
from torch import Tensor

from explorer.methods import structure


@pytest.fixture
def inputs() -> Tensor:
    """(tokens, 48) that hang together, with means, and of very different power."""
    torch.manual_seed(0)
    mixed = torch.randn(400, 20) @ torch.randn(20, 48) + 0.3 * torch.randn(400, 48)
    return (mixed + torch.randn(48)) * torch.logspace(-2, 2, 48)


@pytest.fixture
def gram(inputs: Tensor) -> Tensor:
    return inputs.T @ inputs / len(inputs)


@pytest.fixture
def weight(inputs: Tensor) -> Tensor:
    return torch.randn(24, 48) / inputs.std(dim=0)


def error(weight: Tensor, gram: Tensor, kept: Tensor, smaller: Tensor) -> float:
    """Mean squared error of the output, tr(D C Dᵀ)."""
    difference = weight.clone()
    difference[:, kept] -= smaller
    return float(((difference @ gram) * difference).sum())


@pytest.mark.parametrize(
    ("channels", "removed", "kept"),
    [(1536, 0.0, 1536), (1536, 0.25, 1152), (1536, 0.3, 1072), (100, 0.0, 100), (100, 0.5, 48), (100, 0.99, 8)]
    + [(6, 0.9, 6), (128, 0.001, 120), (160, 0.2, 128), (150, 0.1, 128)],
)
def test_widths_are_aligned_and_never_nothing(channels: int, removed: float, kept: int) -> None:
    assert structure.kept_channels(channels, removed) == kept


def test_something_always_stays() -> None:
    assert structure.kept_blocks(30, 0.99) == structure.kept_groups(3, 0.9) == structure.kept_groups(1, 0.5) == 1
    assert structure.kept_blocks(30, 0.0) == 30 and structure.kept_blocks(30, 0.1) == 27
    assert structure.kept_groups(3, 0.34) == 2


def test_the_best_run_is_the_nearest_pair_of_boundaries() -> None:
    torch.manual_seed(0)
    angles = torch.rand(9, 9)  # 8 blocks
    for count in range(1, 8):
        run = structure.best_run(angles, count)
        costs = {start: float(angles[start, start + count]) for start in range(8 - count)}
        assert len(run) == count and run.start == min(costs, key=costs.__getitem__)


def test_the_best_run_never_holds_the_last_block() -> None:
    angles = torch.ones(5, 5)
    angles[2, 4] = 0.0  # the cheapest run of two, but for its last block
    assert structure.best_run(angles, 2).stop <= 3
    with pytest.raises(ValueError, match="0 to 3"):
        structure.best_run(angles, 4)


def test_protected_blocks_go_last() -> None:
    scores = torch.tensor([0.0, 3.0, 1.0, 2.0, 0.5])
    assert structure.cheapest_first(scores) == [2, 3, 1, 0, 4]
    assert structure.cheapest_first(scores, 2, 0) == [4, 2, 3, 0, 1]
    assert structure.cheapest_first(scores, 0, 0) == [0, 4, 2, 3, 1]


def test_what_stays_keeps_its_order() -> None:
    assert structure.strongest(torch.tensor([5.0, 1.0, 9.0, 7.0]), 3).tolist() == [0, 2, 3]


def test_energy_is_what_a_channel_alone_adds_to_the_output(weight: Tensor, gram: Tensor) -> None:
    for channel in (0, 7):
        alone = torch.zeros_like(gram)
        alone[channel, channel] = gram[channel, channel]
        added = ((weight @ alone) * weight).sum()
        torch.testing.assert_close(structure.energy(weight, gram)[channel], added)


@pytest.mark.parametrize("ridge", [1e-4, 1e-2, 1.0, 100.0])
@pytest.mark.parametrize("count", [1, 8, 24, 40])
def test_making_up_is_never_worse_than_slicing(weight: Tensor, gram: Tensor, count: int, ridge: float) -> None:
    for kept in (torch.arange(count), structure.strongest(torch.rand(48), count)):
        sliced = error(weight, gram, kept, weight[:, kept])
        assert error(weight, gram, kept, structure.compensate(weight, gram, kept, ridge)) < sliced


def test_making_up_is_the_nystrom_solution(weight: Tensor, gram: Tensor) -> None:
    kept = structure.strongest(structure.energy(weight, gram), 16)  # fewer than the 20 directions there are
    inner = gram[kept[:, None], kept].double()
    expected = (weight @ gram)[:, kept].double() @ torch.linalg.inv(inner)
    smaller = structure.compensate(weight, gram, kept, 1e-6)
    assert error(weight, gram, kept, smaller) == pytest.approx(error(weight, gram, kept, expected.float()), rel=1e-3)


def test_copies_are_made_up_for_entirely() -> None:
    half = torch.randn(300, 8)
    gram = torch.cat([half, half], dim=1).T @ torch.cat([half, half], dim=1) / 300
    weight, kept = torch.randn(5, 16), torch.arange(8)
    smaller = structure.compensate(weight, gram, kept, 1e-6)
    torch.testing.assert_close(smaller, weight[:, :8] + weight[:, 8:], rtol=1e-3, atol=1e-3)


def test_channels_that_are_never_active_do_no_harm(weight: Tensor, gram: Tensor) -> None:
    gram[:4], gram[:, :4] = 0, 0
    assert structure.energy(weight, gram).isfinite().all()
    assert structure.compensate(weight, gram, torch.arange(20)).isfinite().all()
    nothing = torch.zeros(48, 48)
    assert structure.energy(weight, nothing).isfinite().all()
    assert torch.equal(structure.compensate(weight, nothing, torch.arange(20)), weight[:, :20])


def test_the_bias_takes_the_mean_error_away(inputs: Tensor, weight: Tensor) -> None:
    kept, mean = torch.arange(0, 48, 2), inputs.mean(dim=0)
    whole = (inputs @ weight.T).mean(dim=0)
    sliced = (inputs[:, kept] @ weight[:, kept].T).mean(dim=0)
    assert (whole - sliced).abs().max() > 0.1
    torch.testing.assert_close(sliced + structure.mean_bias(weight, mean, kept), whole, rtol=1e-3, atol=1e-3)
