"""What was printed or saved of a setting is read back whole; what cannot be is refused in one sentence."""

import json
import math
from typing import Any

import pytest

from explorer.values.measurement import Measurement
from explorer.values.recipe import Recipe
from explorer.values.record import measurement
from explorer.workbench.workbench import Workbench

LEFT = {"seconds": 0, "questions": 0}  # what is not read


@pytest.fixture
def measured(workbench: Workbench) -> Measurement:
    return workbench.measure(Recipe(bits=4), tokens=20, rounds=2)


def test_a_record_read_back_is_the_same_record(measured: Measurement) -> None:
    record = json.loads(json.dumps(measured.to_dict()))
    again = measurement(record).to_dict()
    assert {**again, **LEFT} == {**record, **LEFT}
    plain = measurement(record | {"speed": None, "quality": None})
    assert plain.speed is plain.quality is None


def test_a_perplexity_from_a_longer_text_stays_an_estimate(measured: Measurement) -> None:
    record = measured.to_dict()
    quality = measurement(record).quality
    assert quality and quality.perplexity.how == "measured" and quality.kl.how == "measured"
    record["quality"]["tokens_original"] += 100
    quality = measurement(record).quality
    assert quality and quality.perplexity.how == "estimated" and quality.kl.how == "measured"


def test_null_is_not_a_number(measured: Measurement) -> None:
    record = measured.to_dict()
    record["quality"]["kl"] = None
    quality = measurement(record).quality
    assert quality and math.isnan(quality.kl.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("recipe", {"bits": 99}),
        ("recipe", "4 bits"),
        ("size", None),
        ("size.file_bytes", "many"),
        ("size.file_bytes", True),
        ("size.file_bytes", float("inf")),
        ("quality", []),
        ("quality.tokens", -1),
        ("quality.by_kind", {"code": 1}),
        ("speed.kernel", 7),
        ("texts", [{"prompt": "a", "original": 1, "compressed": ""}]),
        ("texts", [{}] * 5000),
    ],
)
def test_what_cannot_be_is_one_sentence(path: str, value: Any, measured: Measurement) -> None:
    record: dict[str, Any] = json.loads(json.dumps(measured.to_dict()))
    *folders, name = path.split(".")
    part = record
    for folder in folders:
        part = part[folder]
    part[name] = value
    with pytest.raises(ValueError, match=r"^[^\n]{5,300}\.$"):
        measurement(record)
