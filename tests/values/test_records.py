"""What was found out, as values."""

import json
import math
from dataclasses import fields
from typing import Any

import pytest

from explorer.measure.size import footprint
from explorer.values.recipe import Recipe
from explorer.values.records import Cost, Measurement, Quality, Reading, Slice, Speed


def reading(value: float, how: str = "measured") -> Reading:
    return Reading(value=value, unit="ms", how=how, low=value, high=value, n=1)  # type: ignore[arg-type]


def quality_of(**changed: Any) -> Quality:
    half = reading(0.5)
    given = {f.name: half for f in fields(Quality) if f.type == Reading or f.type == "Reading"}
    part = Slice(kind="code", kl=half, top1_agreement=half, lost=half, gained=half)
    return Quality(**{**given, "tokens": 7, "by_kind": (part,), **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"broken_positions": 1}, "broken"),
        ({"kl_max": 0.0, "noise_floor": 0.1}, "identical"),
        ({}, "no noise floor"),
        ({"noise_floor": 0.1}, "distinguishable"),
        ({"noise_floor": 0.6}, "not distinguishable"),
    ],
)
def test_verdicts(changed: dict[str, Any], verdict: str) -> None:
    values = {name: reading(v) if isinstance(v, float) else v for name, v in changed.items()}
    assert quality_of(**values).verdict == verdict


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


def test_a_measurement_becomes_json_with_every_part_that_is_known(timed: Speed) -> None:
    size = footprint(100, 50, 400, 100, "measured", {"mlp": 60}, resident=200, notes=["a note"])
    cost = Cost(flops_per_token=reading(10, "calculated"), useful_flops_per_token=reading(5, "calculated"))
    bare = Measurement(recipe=Recipe(bits=4), model="m", size=size, cost=cost)
    record = json.loads(json.dumps(bare.to_dict()))
    assert record["speed"] is None and record["quality"] is None
    assert Recipe.from_dict(record["recipe"]) == Recipe(bits=4)
    assert record["size"]["compression_ratio"] == 4
    assert (record["size"]["file_bytes"], record["size"]["resident_bytes"]) == (100, 200)

    quality = quality_of(kl=Reading(value=0.1, unit="nats", how="measured", low=0.05, high=0.2, se=0.03, n=7))
    full = Measurement(recipe=Recipe(), model="m", size=size, cost=cost, speed=timed, quality=quality).to_dict()
    assert set(full["speed"]) == {field.name for field in fields(Speed)} | {"busy"}
    assert set(full["quality"]) >= {field.name for field in fields(Quality)}
    assert set(full["quality"]) >= {"kl_se", "kl_low", "kl_high", "ln_ppl_ratio_se", "top1_se", "verdict"}
    assert (full["quality"]["kl_se"], full["quality"]["kl_low"]) == (0.03, 0.05)
    assert full["quality"]["by_kind"]["code"]["lost"] == {"value": 0.5, "low": 0.5, "high": 0.5, "n": 1}
    assert full["speed"]["ms_per_token"] == {"median": 2, "low": 2, "high": 2, "n": 1}


@pytest.mark.parametrize(("high", "busy"), [(1.1, False), (1.3, True)])
def test_times_that_are_far_apart_say_that_the_machine_was_busy(high: float, busy: bool) -> None:
    steady, loose = reading(1), Reading(value=1.0, unit="ms", how="measured", low=0.95, high=high, n=5)
    about = {"tokens_per_second": steady, "kernel": "k", "loop": "own step", "prompt_tokens": 8, "threads": 2}
    for prefill, token in ((steady, loose), (loose, steady)):
        speed = Speed(prefill_ms=prefill, ms_per_token=token, **about)  # type: ignore[arg-type]
        assert speed.busy is busy and speed.to_dict()["busy"] is busy
    assert steady.spread == 0 and loose.spread == pytest.approx(high - 0.95)


def test_a_destroyed_model_still_has_a_record_that_is_json() -> None:
    size = footprint(100, 50, 400, 100, "measured", {})
    cost = Cost(flops_per_token=reading(10), useful_flops_per_token=reading(5))
    nothing = reading(math.nan)
    some = Slice(kind="code", kl=nothing, top1_agreement=nothing, lost=nothing, gained=nothing)
    quality = quality_of(perplexity=nothing, kl=nothing, tokens=0, broken_positions=9, by_kind=(some,))
    json.dumps(
        Measurement(recipe=Recipe(), model="m", size=size, cost=cost, quality=quality).to_dict(), allow_nan=False
    )
