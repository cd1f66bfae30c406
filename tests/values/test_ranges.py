"""Ranges and choices: every stop is accepted, everything else is refused by the name of its field."""

import math

import pytest

from explorer.values.ranges import BITS, CHOICES, GROUPS, RANGES, Range
from explorer.values.recipe import Recipe


@pytest.mark.parametrize("name, range_", RANGES.items())
def test_every_stop_of_a_slider_is_accepted(name: str, range_: Range) -> None:
    stops = round((range_.high - range_.low) / range_.step)
    for i in range(stops + 1):
        Recipe(**{name: range_.low + i * range_.step})


@pytest.mark.parametrize("name, value", [("sparsity", sum([0.05] * 18)), ("keep", 1 - 16 * 0.05)])
def test_a_stop_that_floats_have_blurred_is_still_that_stop(name: str, value: float) -> None:
    assert getattr(Recipe(**{name: value}), name) == round(value, 2)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_is_accepted_and_has_a_group_size(bits: int, group: str) -> None:
    recipe = Recipe(bits=bits, head_bits=bits, group=group)
    if bits == 16:
        assert recipe == Recipe()  # nothing is rounded, so nothing is grouped
    else:
        assert recipe.group_size(bits) == {"64": 64, "32": 32, "0": 0, "auto": 0 if bits == 8 else 64}[group]


@pytest.mark.parametrize("name", [*RANGES, *CHOICES, "bits", "head_bits"])
@pytest.mark.parametrize("value", [-1, 999.5, math.nan, math.inf, True, None, "many", [4]])
def test_what_lies_outside_is_refused_by_the_name_of_its_field(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name} must"):
        Recipe(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(RANGES))
def test_a_number_beyond_floats_is_refused_like_any_other(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must"):
        Recipe(**{name: 10**400})


@pytest.mark.parametrize("name, low, high", [(n, r.low, r.high) for n, r in RANGES.items()])
def test_the_refusal_names_the_range(name: str, low: float, high: float) -> None:
    with pytest.raises(ValueError, match=f"between {low:g} and {high:g}"):
        Recipe(**{name: high + 0.05})
