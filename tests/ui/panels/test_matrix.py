"""Pictures of a matrix: drawn from numbers alone, with words for who cannot see them."""

import math

import pytest

from explorer.ui.panels.matrix import pictures, spectrum, weights
from explorer.ui.pictures import About
from explorer.values.matrices import Inside

ABOUT = About(model="m", setting="4 bits")


def found(**other: object) -> Inside:
    plain = {
        "name": "<script>alert(1)</script>",
        "reach": 0.5,
        "before": (1, 4, 9, 4, 1),
        "after": (0, 0, 19, 0, 0),
        "levels": (-9.0, -0.25, 0.0, 0.25),
        "ranks": (1, 2, 4),
        "spectrum": (1.0, 0.1, 0.0),
        "cut": 2,
    }
    return Inside(**plain | other)  # type: ignore[arg-type]


def test_names_are_text_and_pictures_have_words() -> None:
    html = pictures(found(), ABOUT)
    assert "<script" not in html and html.count("<size-picture") == html.count(' says="') == 2
    assert "rank 2 of 4" in html


def test_the_axis_counts_weights_and_only_levels_within_it_are_drawn() -> None:
    drawn = weights(found())
    before, after, levels = drawn.data
    assert before["text"] == ["1", "4", "9", "4", "1"] and before["y"] == [1, 2, 3, 2, 1]
    assert [x for x in levels["x"] if x is not None] == [-0.25, -0.25, 0.0, 0.0, 0.25, 0.25]
    assert before["x"] == after["x"] == pytest.approx([-0.4, -0.2, 0.0, 0.2, 0.4])
    ticks = drawn.layout["yaxis"]
    assert ticks["tickvals"][-1] == math.sqrt(20) and ticks["ticktext"][-1] == "20"


def test_nothing_is_drawn_that_is_not_there() -> None:
    plain = found(levels=(), cut=None)
    assert len(weights(plain).data) == 2 and len(spectrum(plain).data) == 1
