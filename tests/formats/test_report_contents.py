"""Which setting a report is about, and sentences in which numbers stay Readings."""

import math
from dataclasses import replace

import pytest

from explorer.formats.report_contents import chosen, line
from explorer.values.measurement import Measurement
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench


@pytest.fixture
def row(workbench: Workbench) -> Measurement:
    return workbench.measure(Recipe(bits=8), tokens=20, rounds=1)


def of(row: Measurement, bits: int, kl: float, size: float) -> Measurement:
    assert row.quality
    quality = replace(row.quality, kl=replace(row.quality.kl, value=kl))
    footprint = replace(row.size, file_bytes=replace(row.size.file_bytes, value=size))
    return replace(row, recipe=Recipe(bits=bits), quality=quality, size=footprint)


def test_the_smallest_that_is_close_to_the_original(row: Measurement) -> None:
    some = [of(row, 8, 0.001, 300), of(row, 5, 0.05, 200), of(row, 4, 0.06, 100), of(row, 16, 0.0, 50)]
    assert chosen(some, None).recipe == Recipe(bits=5)
    assert chosen(some, Recipe(bits=4)).recipe == Recipe(bits=4)


def test_the_closest_where_none_is_close(row: Measurement) -> None:
    some = [of(row, 2, math.nan, 50), of(row, 4, 0.06, 200), of(row, 3, 0.5, 100)]
    assert chosen(some, None).recipe == Recipe(bits=4)


def test_there_is_nothing_to_report_of_what_was_not_compared(row: Measurement) -> None:
    unjudged = replace(row, quality=None)
    for rows, wanted in (([], None), ([unjudged], None), ([unjudged], row.recipe), ([row], Recipe(bits=3))):
        with pytest.raises(ValueError, match=r"^[^\n]+ nothing to report\.$"):
            chosen(rows, wanted)


def test_a_number_in_a_sentence_stays_a_reading() -> None:
    size = Reading(value=1e6, unit="bytes", how="measured")
    assert line("Takes {size}, {n} times.", size=size, n=1200) == ("Takes ", size, ", ", "1,200", " times.")
    with pytest.raises(KeyError):
        line("{missing}")
