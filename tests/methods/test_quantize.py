"""Values to codes on a grid that holds zero."""

from collections.abc import Callable

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


def heavy(columns: int = 100) -> Tensor:
    """Rows with a few far weights, which a range must give up or pay for."""
    return weights(columns) ** 3


def errors(weight: Tensor, triple: tuple[Tensor, Tensor, Tensor], group: int, power: float = 2) -> Tensor:
    """|w - q|^power, (rows, groups, size), the last group filled up with zeros."""
    error = (quantize.dequantize(*triple, group, torch.float32) - weight).abs() ** power
    count, size = quantize.groups_of(weight.shape[1], group)
    return torch.nn.functional.pad(error, (0, count * size - weight.shape[1])).view(weight.shape[0], count, size)


def searched(weight: Tensor, bits: int, group: int, importance: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    scale, zero = quantize.search_grid(weight, bits, group, importance)
    return quantize.round_on(weight, scale, zero, bits, group), scale, zero


@pytest.mark.parametrize("bits, group", SETTINGS)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_searched_range_is_worse_for_no_group(bits: int, group: int, weighted: bool) -> None:
    weight, importance = heavy(), torch.rand(100) ** 4 + 0.01
    found = searched(weight, bits, group, importance if weighted else None)
    weigh = torch.nn.functional.pad(importance if weighted else torch.ones(100), (0, 100))
    count, size = quantize.groups_of(100, group)
    weigh = weigh[: count * size].view(count, size)
    before = (errors(weight, quantize.round_to_nearest(weight, bits, group), group) * weigh).sum(-1)
    after = (errors(weight, found, group) * weigh).sum(-1)
    assert (after <= before * (1 + 1e-4) + 1e-12).all()
    assert after.sum() < before.sum()


@pytest.mark.parametrize("bits, most", [(4, 0.95), (3, 0.85), (2, 0.65)])
@pytest.mark.parametrize("group", [0, 64])
def test_a_search_is_worth_its_time_at_few_bits(bits: int, most: float, group: int) -> None:
    weight = weights(256)
    before = errors(weight, quantize.round_to_nearest(weight, bits, group), group).sum()
    assert errors(weight, searched(weight, bits, group, None), group).sum() < most * before


def test_each_end_of_a_range_is_searched_by_itself() -> None:
    """The far weights of one end may matter more: searching one end alone leaves 2 % more error."""
    weight = torch.randn(64, 256, generator=torch.Generator().manual_seed(5))
    importance = torch.rand(256, generator=torch.Generator().manual_seed(5)) ** 4 + 0.002
    common, grouped = [], weight.view(64, -1, 64)
    for step in range(20):
        ends = [end(grouped, -1, keepdim=True) * (1 - step / 38) for end in (torch.amin, torch.amax)]
        scale, zero = quantize.grid(grouped.clamp(*ends).view(64, -1), 4, 64)
        triple = quantize.round_on(weight, scale, zero, 4, 64), scale, zero
        common.append((errors(weight, triple, 64) * importance.view(4, 64)).sum(-1))
    found = errors(weight, searched(weight, 4, 64, importance), 64) * importance.view(4, 64)
    assert found.sum() < 0.97 * torch.stack(common).amin(0).sum()


def test_a_search_minds_what_is_important() -> None:
    weight = heavy()
    important = torch.where(torch.arange(100) % 2 == 0, 1.0, 1e-4)
    blind, minding = (errors(weight, searched(weight, 3, 64, each), 64).view(9, -1) for each in (None, important))
    assert minding[:, :100:2].sum() < 0.9 * blind[:, :100:2].sum()


def test_importance_may_differ_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "TILE", 400)
    weight, importance = heavy(), torch.rand(9, 100)
    whole = quantize.search_grid(weight, 4, 32, importance)
    for row in range(9):
        alone = quantize.search_grid(weight[row : row + 1], 4, 32, importance[row])
        assert all(torch.equal(one[row : row + 1], other) for one, other in zip(whole, alone, strict=True))


@pytest.mark.parametrize("method", ["search", "hqq"])
@pytest.mark.parametrize("bits, group", SETTINGS)
def test_every_grid_is_stored_as_the_plain_one_is(
    method: str, bits: int, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "TILE", 300)  # three rows at a time: the tiles must fit together again
    weight = heavy()
    codes, scale, zero = quantize.hqq(weight, bits, group) if method == "hqq" else searched(weight, bits, group, None)
    plain = quantize.round_to_nearest(weight, bits, group)
    assert all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in zip((codes, scale, zero), plain, strict=True))
    assert max(int(codes.max()), int(zero.max())) < 2**bits
    assert torch.equal(scale.bfloat16().to(torch.float16), scale)


def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, importance = heavy(), torch.rand(100)

    def both() -> tuple[Tensor, ...]:
        return *quantize.search_grid(weight, 3, 32, importance), *quantize.hqq(weight, 3, 32)

    whole = both()
    monkeypatch.setattr(quantize, "TILE", 250)
    assert all(torch.equal(one, other) for one, other in zip(whole, both(), strict=True))


@pytest.mark.parametrize("bits, group", SETTINGS)
@pytest.mark.parametrize("make", [weights, heavy])
def test_half_quadratic_steps_are_worse_for_no_group(bits: int, group: int, make: Callable[[], Tensor]) -> None:
    weight = make()
    before = errors(weight, quantize.round_to_nearest(weight, bits, group), group, 0.7).sum(-1)
    after = errors(weight, quantize.hqq(weight, bits, group), group, 0.7).sum(-1)
    assert (after <= before * (1 + 1e-4) + 1e-6).all()


@pytest.mark.parametrize("bits, most", [(4, 0.985), (3, 0.95), (2, 0.85)])
@pytest.mark.parametrize("group", [0, 64])
def test_half_quadratic_steps_are_worth_their_time_at_few_bits(bits: int, most: float, group: int) -> None:
    weight = weights(256)
    before = errors(weight, quantize.round_to_nearest(weight, bits, group), group, 0.7).sum()
    assert errors(weight, quantize.hqq(weight, bits, group), group, 0.7).sum() < most * before


def test_half_quadratic_steps_leave_outliers_out() -> None:
    """Least squares on the grid, which has no outliers, ends above 0.915 of the plain error here."""
    weight = torch.distributions.StudentT(4.0).sample(torch.Size((128, 256)))
    before = errors(weight, quantize.round_to_nearest(weight, 3, 64), 64, 0.7).sum()
    assert errors(weight, quantize.hqq(weight, 3, 64), 64, 0.7).sum() < 0.905 * before


@pytest.mark.parametrize("bits, group", SETTINGS)
@pytest.mark.parametrize("value", [0.0, 0.25, -0.25, 1000.0])
def test_constants_survive_every_method(bits: int, group: int, value: float) -> None:
    weight = torch.full((3, 100), value)
    for triple in (searched(weight, bits, group, None), quantize.hqq(weight, bits, group)):
        assert torch.allclose(quantize.dequantize(*triple, group, torch.float32), weight, rtol=2**-7, atol=2**-24)
    scale = quantize.awq_scale([weight], torch.zeros(100), torch.zeros(100), bits, group)
    assert scale.isfinite().all() and (scale > 0).all()


def awq_error(weight: Tensor, scale: Tensor, gram: Tensor, bits: int, group: int) -> float:
    return float((((decoded(weight * scale, bits, group) / scale) - weight) ** 2 * gram).sum())


@pytest.mark.parametrize("bits, group", SETTINGS)
def test_activation_aware_scales_lower_the_error_of_the_output(bits: int, group: int) -> None:
    pair = [weights(), heavy()]
    size = torch.exp(torch.randn(100, generator=torch.Generator().manual_seed(8)))
    scale = quantize.awq_scale(pair, size, 2 * size**2, bits, group)
    assert scale.shape == (100,) and torch.equal(scale.bfloat16().float(), scale)
    before, after = (
        sum(awq_error(weight, s, 2 * size**2, bits, group) for weight in pair) for s in (torch.ones(100), scale)
    )
    assert after < 0.95 * before


def test_no_scale_is_chosen_where_none_helps() -> None:
    """The input is large where the mean says small: every exponent above 0 makes it worse."""
    size = torch.exp(torch.linspace(-3, 3, 100))
    scale = quantize.awq_scale([weights()], size, 1 / size**4, 4, 64)
    assert torch.equal(scale, torch.ones(100))


def test_one_scale_serves_all_that_share_an_input() -> None:
    size = torch.exp(torch.randn(100, generator=torch.Generator().manual_seed(8)))
    both = quantize.awq_scale([weights(), heavy()], size, size**2, 3, 32)
    stacked = quantize.awq_scale([torch.cat([weights(), heavy()])], size, size**2, 3, 32)
    assert torch.equal(both, stacked)


@pytest.mark.parametrize("bits", [4, 2])
def test_a_column_alone_is_rounded_as_within_its_group(bits: int) -> None:
    """What a column-by-column method needs."""
    weight = weights()
    codes, scale, zero = quantize.round_to_nearest(weight, bits, 64)
    for column in (0, 63, 64, 99):
        place = slice(column // 64, column // 64 + 1)
        one = quantize.round_on(weight[:, column : column + 1], scale[:, place], zero[:, place], bits, 0)
        assert torch.equal(one[:, 0], codes[:, column])
