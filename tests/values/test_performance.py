"""What a ratio may be called, and that everything becomes JSON."""

import json
from dataclasses import replace
from typing import Any

import pytest

from explorer.values.performance import (
    PARTS,
    Cell,
    Energy,
    Machine,
    Parts,
    Performance,
    Product,
    Roofline,
    Side,
    Speed,
    verdict,
)
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe


def reading(value: float, unit: str = "ms", **ends: Any) -> Reading:
    return Reading(value=value, unit=unit, how="measured", **ends)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (1.1, 1.3, "faster"),
        (0.7, 0.9, "slower"),
        (0.9, 1.4, "no clear difference"),
        (1.0, 1.0, "no clear difference"),
        (None, None, "no clear difference"),
    ],
)
def test_only_a_whole_interval_beyond_one_is_a_difference(low: float | None, high: float | None, word: str) -> None:
    assert verdict(reading(1.0, "×", low=low, high=high)) == word


def test_no_ratio_is_no_difference() -> None:
    assert verdict(None) == "no clear difference"


def test_everything_becomes_json(timed: Speed) -> None:
    slow = reading(0.8, "×", low=0.7, high=0.9)
    speed = replace(timed, decode_ratio=slow)
    side = Side(
        speed=speed,
        roofline=Roofline(bytes_per_token=reading(8), floor_ms=reading(1), share=reading(0.5)),
        parts=Parts(parts={part: reading(1) for part in PARTS}, total=reading(5)),
        energy=Energy(
            joules_per_token=reading(1), kwh_per_million=reading(1), co2_g_per_million=reading(1), source="a counter"
        ),
    )
    table = (Product(kernel="k", shape=(3, 4), tokens=1, ms=reading(1)),)
    machine = Machine(processor="a chip", threads=2, dtype="float32", bandwidth=reading(1e9), products=table)
    cell = Cell(batch=4, prompt_tokens=8, original=speed, compressed=speed)
    whole = Performance(
        recipe=Recipe(bits=4), model="m", original=side, compressed=side, machine=machine, surface=(cell,)
    )
    found = json.loads(json.dumps(whole.to_dict()))
    assert Recipe.from_dict(found["recipe"]) == Recipe(bits=4)
    assert found["surface"][0]["verdict"] == {"prefill": "no clear difference", "decode": "slower"}
    assert found["compressed"]["speed"]["decode_ratio"]["high"] == 0.9
    assert set(found["original"]["parts"]["parts"]) == set(PARTS)
    assert found["machine"]["products"][0]["shape"] == [3, 4]
    assert found["machine"]["products"][0]["ms"]["how"] == "measured"


@pytest.mark.parametrize(("high", "busy"), [(1.1, False), (1.3, True)])
def test_times_that_are_far_apart_say_that_the_machine_was_busy(high: float, busy: bool) -> None:
    steady, loose = (
        Reading(value=1.0, unit="ms", how="measured", low=1.0, high=1.0, n=1),
        Reading(value=1.0, unit="ms", how="measured", low=0.95, high=high, n=5),
    )
    about = {"tokens_per_second": steady, "kernel": "k", "loop": "own step", "prompt_tokens": 8, "threads": 2}
    for prefill, token in ((steady, loose), (loose, steady)):
        speed = Speed(prefill_ms=prefill, ms_per_token=token, **about)  # type: ignore[arg-type]
        assert speed.busy is busy and speed.to_dict()["busy"] is busy
    assert steady.spread == 0 and loose.spread == pytest.approx(high - 0.95)
