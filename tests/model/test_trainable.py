"""The slope of what is trained is that of the plain formula."""

import pytest
import torch

from explorer.model import trainable


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("columns, size", [(12, 4), (10, 4), (7, 7)])
def test_the_slope_of_a_scale_is_that_of_the_plain_formula(masked: bool, columns: int, size: int) -> None:
    noise = torch.Generator().manual_seed(4)
    decoded = torch.randn(5, 2 * columns if masked else columns, generator=noise)
    mask = None
    if masked:
        mask = torch.zeros(decoded.shape, dtype=torch.bool)
        for row in mask:
            row[torch.randperm(len(row), generator=noise)[:columns]] = True
        decoded = decoded * mask
    groups = -(-columns // size)
    gain = (0.1 * torch.randn(5, groups, generator=noise)).requires_grad_(True)
    pull = torch.randn(decoded.shape, generator=noise)
    (found,) = torch.autograd.grad((trainable._Scaled.apply(gain, decoded, mask, columns, size) * pull).sum(), gain)
    wanted = torch.zeros(5, groups)
    for row in range(5):
        places = mask[row].nonzero()[:, 0].tolist() if mask is not None else range(columns)
        for at, place in enumerate(places):
            wanted[row, at // size] += decoded[row, place] * pull[row, place]
    assert torch.allclose(found, wanted, atol=1e-5)
