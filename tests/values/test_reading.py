"""Readings: the median and its spread."""

import pytest

from explorer.values.reading import Reading


def test_timing_is_the_median_with_the_10th_and_90th_percentile() -> None:
    samples = [float(i) for i in range(11)]
    found = Reading.timing(samples[::-1])
    assert (found.value, found.low, found.high, found.n, found.unit, found.how) == (5, 1, 9, 11, "ms", "measured")


def test_one_outlier_moves_neither_median_nor_percentiles() -> None:
    assert Reading.timing([1.0] * 20 + [1000.0]).high == 1.0


@pytest.mark.parametrize("samples", [[3.0], [3.0, 5.0], [5.0, 3.0, 4.0]])
def test_timing_of_few_samples_lies_between_its_own_bounds(samples: list[float]) -> None:
    found = Reading.timing(samples)
    assert found.low is not None and found.high is not None
    assert min(samples) <= found.low <= found.value <= found.high <= max(samples)
    assert found.n == len(samples)


def test_timing_does_not_sort_the_samples_it_was_given() -> None:
    samples = [3.0, 1.0, 2.0]
    Reading.timing(samples)
    assert samples == [3.0, 1.0, 2.0]


def test_no_reading_without_how_it_was_obtained() -> None:
    with pytest.raises(TypeError):
        Reading(value=1, unit="ms")  # type: ignore[call-arg]
