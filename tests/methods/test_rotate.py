"""A rotation: orthogonal, spreading, the same for a gram as for its inputs."""

import pytest
import torch

from explorer.layers.rotated import Rotation

WIDTHS = [1, 3, 64, 96, 576, 896, 960, 2048, 4096]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_rotation_is_orthogonal_and_spreads_every_direction(width: int) -> None:
    rotation = Rotation(width)
    x = torch.randn(5, width, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(rotation.back(rotation.rotate(x)), x, atol=1e-4)
    assert torch.allclose(rotation.rotate(x).norm(dim=1), x.norm(dim=1), rtol=1e-4)
    if width >= 64:
        one = torch.zeros(width)
        one[width // 3] = 1
        assert rotation.rotate(one).abs().max() < 6 / width**0.5


def test_a_gram_is_turned_like_its_inputs() -> None:
    rotation, x = Rotation(96), torch.randn(500, 96, generator=torch.Generator().manual_seed(1))
    turned = rotation.rotate(x)
    assert torch.allclose(rotation.around(x.T @ x), turned.T @ turned, atol=1e-2)


def test_it_is_the_same_for_equal_widths_and_whatever_device_is_the_default() -> None:
    x = torch.randn(3, 96)
    with torch.device("meta"):
        other = Rotation(96)
    assert torch.equal(Rotation(96).rotate(x), other.rotate(x))
