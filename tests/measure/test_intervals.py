"""95 % intervals of figures over tokens that are alike within a passage."""

import math

import numpy as np
import pytest

from explorer.measure.intervals import Blocks, paired_ratio, paired_share, t_quantile, wilson

LENGTHS = {
    "four of 256": [256] * 4,
    "eight of 128": [128] * 8,
    "five, very unequal": [30, 400, 90, 250, 230],
    "eight, very unequal": [20, 300, 60, 256, 40, 128, 180, 30],
    "one of 256": [256],
}


def drawn(draws: np.random.Generator, lengths: list[int]) -> np.ndarray:
    """Heavy-tailed and correlated, like KL: σ of a token 2.3 times the mean, passages off by 15 %; mean 1."""
    parts = []
    for length in lengths:
        level = draws.normal(0, 0.15)
        slow, steps = np.empty(length), draws.normal(size=length)
        slow[0] = steps[0]
        for i in range(1, length):
            slow[i] = 0.3 * slow[i - 1] + math.sqrt(1 - 0.09) * steps[i]
        parts.append(np.exp(1.3 * slow + level))
    return np.concatenate(parts) / math.exp((1.3**2 + 0.15**2) / 2)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_95_in_100_intervals_hold_the_true_mean(lengths: list[int]) -> None:
    draws = np.random.default_rng(3)
    held = 0
    for _ in range(250):
        found = Blocks(lengths).mean(drawn(draws, lengths), "nats", positive=True)
        assert found.low is not None and found.high is not None
        held += found.low <= 1 <= found.high
    assert (0.86 if len(lengths) > 1 else 0.8) <= held / 250 <= 0.99  # one cannot know how the others differ


def test_the_usual_bootstrap_would_have_held_it_less_often() -> None:
    """What the whole matter is about: percentiles of resampled passages are too narrow where there are four."""
    draws, lengths, ours, percentile = np.random.default_rng(4), [256] * 4, 0, 0
    for _ in range(200):
        values = drawn(draws, lengths)
        found = Blocks(lengths).mean(values, "nats", positive=True)
        assert found.low is not None and found.high is not None
        ours += found.low <= 1 <= found.high
        means = values.reshape(4, 256).mean(1)[draws.integers(4, size=(400, 4))].mean(1)
        low, high = np.quantile(means, (0.025, 0.975))
        percentile += low <= 1 <= high
    assert percentile < 0.86 * 200 < ours


def test_equal_blocks_give_the_textbook_standard_error_and_t() -> None:
    draws = np.random.default_rng(0)
    values = draws.normal(size=(9, 200))
    found = Blocks([200] * 9).mean(values.ravel(), "")
    means = values.mean(1)
    error = means.std(ddof=1) / 3
    assert found.se == pytest.approx(error) and found.value == pytest.approx(means.mean())
    assert found.high == pytest.approx(means.mean() + 2.306 * error)


def test_one_long_passage_among_short_ones_counts_as_few() -> None:
    assert Blocks([1000] * 9).t == pytest.approx(2.306, rel=1e-3)
    even, uneven = Blocks([100] * 20).t, Blocks([30] * 19 + [300]).t
    assert even is not None and uneven is not None and uneven > even


def test_few_passages_are_cut_and_enough_are_not() -> None:
    assert len(Blocks([256])._sizes) == 4 and len(Blocks([256] * 4)._sizes) == 8
    assert Blocks([256] * 20)._sizes.tolist() == [256.0] * 20
    assert sum(Blocks([7, 100, 31])._sizes) == 138


def test_too_little_for_an_interval_has_none() -> None:
    for lengths in ([], [5], [24]):
        blocks, values = Blocks(lengths), np.ones(sum(lengths))
        for found in (blocks.mean(values, ""), blocks.share(values > 0), blocks.quantile(values, 0.5, "")):
            assert found.low is None and found.high is None and found.n == sum(lengths)
    assert math.isnan(Blocks([]).mean(np.zeros(0), "").value)


def test_nothing_but_zeros_is_exactly_zero() -> None:
    found = Blocks([40] * 4).mean(np.zeros(160), "nats", positive=True)
    assert (found.value, found.low, found.high, found.se) == (0, 0, 0, 0)


def test_a_share_of_all_still_has_a_width_unless_it_is_certain() -> None:
    hits = np.ones(400, dtype=bool)
    found = Blocks([100] * 4).share(hits)
    assert found.value == found.high == 1 and found.low is not None and 0.97 < found.low < 1
    assert Blocks([100] * 4).share(hits, certain=True).low == 1


def test_alike_tokens_widen_the_interval_of_a_share() -> None:
    draws = np.random.default_rng(1)
    free = draws.random(2000) < 0.8
    clumped = np.repeat(draws.random(20) < 0.8, 100)
    widths = [(found.high or 0) - (found.low or 0) for found in map(Blocks([100] * 20).share, (free, clumped))]
    assert widths[1] > 3 * widths[0]


def test_a_quantile_is_exact_and_its_interval_holds_the_true_one() -> None:
    draws, held = np.random.default_rng(2), 0
    for _ in range(100):
        values = draws.exponential(size=1024)
        found = Blocks([128] * 8).quantile(values, 0.9, "nats")
        assert found.value == pytest.approx(np.quantile(values, 0.9))
        assert found.low is not None and found.high is not None
        held += found.low <= math.log(10) <= found.high
    assert 88 <= held <= 100
    assert Blocks([128] * 8).quantile(values, 0.999, "nats").high is None  # beyond what was seen


def test_what_a_broken_token_reaches_is_not_a_number() -> None:
    values = np.linspace(0, 1, 160)
    values[3] = np.inf
    blocks = Blocks([40] * 4)
    assert math.isnan(blocks.mean(values, "").value) and blocks.mean(values, "").low is None
    assert math.isnan(blocks.quantile(values, 1.0, "").value)
    assert 0.4 < blocks.quantile(values, 0.5, "").value < 0.6


def test_wilson_and_t_against_the_tables() -> None:
    assert wilson(0.05, 20) == pytest.approx((0.0089, 0.2361), abs=1e-4)
    assert wilson(0.0, 20)[0] == 0 and wilson(1.0, 20)[1] == 1
    assert t_quantile(9) == pytest.approx(2.262, abs=2e-3) and t_quantile(1e12) == pytest.approx(1.96)
    assert t_quantile(0.2) == t_quantile(1) == pytest.approx(12.706)


def test_a_ratio_in_pairs_is_the_geometric_mean_and_takes_out_what_they_share() -> None:
    loads = [1.0, 3.0, 2.0, 9.0]  # how busy the machine was in each round
    found = paired_ratio([2 * load for load in loads], loads)
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2)) and found.n == 4
    loose = paired_ratio([1.0, 4.0], [1.0, 1.0])
    assert loose.value == pytest.approx(2) and loose.unit == "×"
    reach = 12.706 * math.log(4) / 2  # t(1) × s.d. / √2
    assert (loose.low, loose.high) == pytest.approx((2 / math.exp(reach), 2 * math.exp(reach)))
    shared = paired_ratio([2.0] * 5, [1.0] * 5, besides=0.01)
    assert shared.low == pytest.approx(2 / math.exp(2.776 * 0.01)) and shared.se == pytest.approx(0.01)
    assert paired_ratio([3.0], [1.5]).low is None


def test_95_in_100_ratios_hold_1_where_nothing_differs() -> None:
    draws = np.random.default_rng(0)
    found = [paired_ratio(*np.exp(draws.normal(size=(2, 5)))) for _ in range(1000)]
    assert 0.93 < sum(each.low <= 1 <= each.high for each in found) / 1000 < 0.97  # type: ignore[operator]


def test_a_paired_difference_covers_what_it_should() -> None:
    """95 % intervals of (gained - lost) / n over drawn tables of 100 pairs, at several chances of a flip."""
    draws = np.random.default_rng(3)
    for lost, gained in ((0.02, 0.01), (0.1, 0.05), (0.3, 0.1)):
        inside = 0
        for row in draws.multinomial(100, [lost, gained, 1 - lost - gained], size=2000):
            found = paired_share(int(row[0]), int(row[1]), 100)
            assert found.low is not None and found.high is not None and found.low <= found.value <= found.high
            inside += found.low <= gained - lost <= found.high
        assert 0.93 < inside / 2000 < 0.99, (lost, gained)
    assert paired_share(0, 0, 100, certain=True).high == 0 < (paired_share(0, 0, 100).high or 0)
