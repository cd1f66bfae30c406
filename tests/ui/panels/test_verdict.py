"""One sentence; every number of it is a reading of the record, and what cannot be told apart is said as such."""

import re
from dataclasses import replace

import pytest

from explorer.ui.desk import Desk
from explorer.ui.panels import verdict
from explorer.ui.view import View
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe


def told(desk: Desk, recipe: Recipe) -> str:
    shown = verdict.draw(View(numbers=desk.known.numbers(recipe))) or ""
    return re.sub(r"<[^>]*>", "", re.sub(r'<span class="badge.*?</span>', "", shown))


def test_the_original_invites_and_other_settings_are_told_as_far_as_they_are_known(desk: Desk) -> None:
    assert "original" in told(desk, Recipe())
    recipe = Recipe(bits=3, quant="rtn")
    assert told(desk, recipe).startswith("3 bits") and "being measured" in told(desk, recipe)


def test_every_number_is_the_record_s(desk: Desk) -> None:
    recipe = Recipe(bits=2, quant="rtn")
    record = desk.bench.measure(recipe, tokens=60, rounds=1, decode_steps=2)
    for asked in desk.bench.questions(recipe):
        record = desk.bench.record(desk.bench.variant(recipe), questions=asked)
    found = told(desk, recipe)
    plain = record.to_dict()
    assert f"{plain['size']['compression_ratio']:.2f}×" in found
    assert f"{plain['speed']['decode_ratio']['value']:.2f}×" in found
    assert f"{100 * plain['quality']['top1_agreement']:.1f} %" in found
    assert f"of {len(record.questions.answers)} easy questions" in found if record.questions else False


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.8, 1.3, "no difference"), (1.2, 1.5, "faster"), (0.5, 0.9, "slower"), (None, None, "timed once")],
)
def test_speed_is_called_different_only_beyond_its_interval(
    desk: Desk, low: float | None, high: float | None, word: str
) -> None:
    recipe = Recipe(bits=4, quant="rtn")
    record = desk.bench.measure(recipe, tokens=60, rounds=1, decode_steps=2)
    assert record.speed
    ratio = Reading(value=((low or 1.8) + (high or 2.0)) / 2, unit="×", how="measured", low=low, high=high)
    desk.bench.record(desk.bench.variant(recipe), speed=replace(record.speed, decode_ratio=ratio))
    assert word in told(desk, recipe)
