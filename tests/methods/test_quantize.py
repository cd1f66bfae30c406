"""Values to codes on a grid that holds zero."""

import pytest
import torch
from torch import Tensor

from explorer.methods import quantize

SETTINGS = [(bits, group) for bits in (8, 6, 5, 4, 3, 2) for group in (0, 32, 64)]


def weights(columns: int = 100) -> Tensor:
    return torch.randn(9, columns, generator=torch.Generator().manual_seed(5))


def decoded(weight: Tensor, bits: int, group: int) -> Tensor:
    return quantize.dequantize(*quantize.round_to_nearest(weight, bits, group), group, weight.dtype)


@pytest.mark.parametrize("bits, group", SETTINGS)
def test_codes_scales_and_zeros_have_their_shapes_and_fit_their_bits(bits: int, group: int) -> None:
    codes, scale, zero = quantize.round_to_nearest(weights(), bits, group)
    count = quantize.groups_of(100, group)[0]
    assert codes.shape == (9, 100) and scale.shape == zero.shape == (9, count)
    assert codes.dtype == zero.dtype == torch.uint8 and scale.dtype == torch.float16
    assert max(int(codes.max()), int(zero.max())) < 2**bits


@pytest.mark.parametrize("bits, group", SETTINGS)
def test_the_error_is_at_most_half_a_step_inside_the_grid(bits: int, group: int) -> None:
    """And what lies outside it is cut: few weights, and no more than rounding scale (to bfloat16) and zero explain."""
    weight = weights()
    _, scale, zero = quantize.round_to_nearest(weight, bits, group)
    size = quantize.groups_of(100, group)[1]
    step, zero = (t.float().repeat_interleave(size, dim=1)[:, :100] for t in (scale, zero))
    beyond = (-zero * step - weight).clamp(min=0) + (weight - (2**bits - 1 - zero) * step).clamp(min=0)
    error = (decoded(weight, bits, group) - weight).abs()
    assert (error <= 0.5 * step + beyond + 1e-5).all()
    assert (beyond <= step * (0.5 + (2**bits - 1) * 2.0**-8) + 1e-5).all()
    assert (beyond > 0).float().mean() < 0.1


@pytest.mark.parametrize("bits", [8, 6])
def test_no_weight_is_off_by_more_than_half_a_step(bits: int) -> None:
    weight = torch.randn(500, 256, generator=torch.Generator().manual_seed(0))
    scale = quantize.round_to_nearest(weight, bits, 0)[1].float()
    assert ((decoded(weight, bits, 0) - weight).abs() <= 0.501 * scale).all()


@pytest.mark.parametrize("bits, group", SETTINGS)
@pytest.mark.parametrize("shift", [0.0, 3.0, -3.0])
def test_zero_stays_exactly_zero(bits: int, group: int, shift: float) -> None:
    weight = weights() + shift
    weight[:, ::3] = 0
    assert (decoded(weight, bits, group)[:, ::3] == 0).all()


@pytest.mark.parametrize("bits, group", SETTINGS)
@pytest.mark.parametrize("value", [0.0, 0.25, -0.25, 1e-12, 1000.0])
def test_constant_groups_come_back(bits: int, group: int, value: float) -> None:
    weight = torch.full((3, 64), value)
    assert torch.allclose(decoded(weight, bits, group), weight, rtol=2**-7, atol=2**-24)


@pytest.mark.parametrize("group", [0, 32, 64])
def test_fewer_bits_give_a_larger_error(group: int) -> None:
    weight = weights(256)
    errors = [float((decoded(weight, bits, group) - weight).norm()) for bits in (8, 6, 5, 4, 3, 2)]
    assert errors == sorted(errors) and errors[0] < errors[-1] / 20


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_smaller_groups_give_a_smaller_error(bits: int) -> None:
    weight = weights(256)
    errors = [float((decoded(weight, bits, group) - weight).norm()) for group in (32, 64, 0)]
    assert errors == sorted(errors)


@pytest.mark.parametrize("bits, group", SETTINGS)
def test_a_scale_is_the_same_number_in_bfloat16(bits: int, group: int) -> None:
    scale = quantize.round_to_nearest(weights(), bits, group)[1]
    assert torch.equal(scale.bfloat16().to(torch.float16), scale)


@pytest.mark.parametrize(
    "columns, group, expected", [(100, 64, (2, 64)), (100, 0, (1, 100)), (24, 64, (1, 24)), (64, 64, (1, 64))]
)
def test_groups_of_a_row(columns: int, group: int, expected: tuple[int, int]) -> None:
    assert quantize.groups_of(columns, group) == expected


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_weights_of_any_size_stay_numbers(bits: int) -> None:
    assert decoded(weights() * 1e8, bits, 0).isfinite().all()
