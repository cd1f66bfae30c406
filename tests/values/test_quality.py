"""Whether a difference can be told."""

from dataclasses import fields
from typing import Any

import pytest

from explorer.values.quality import Quality, Slice
from explorer.values.reading import Reading


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
