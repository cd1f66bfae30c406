"""Pictures of a matrix: drawn from numbers alone, with words for who cannot see them."""

import re

from explorer.ui.panels.matrix import pictures
from explorer.values.matrices import Inside


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
    html = pictures(found())
    assert "<script" not in html and html.count("<svg") == html.count('role="img"') == 2
    assert "rank 2 of 4" in html and html.count('class="level"') == 3  # the one beyond the picture is not drawn


def test_nothing_is_drawn_that_is_not_there() -> None:
    html = pictures(found(levels=(), cut=None))
    assert 'class="level"' not in html and 'class="cut"' not in html


def test_every_coordinate_is_a_number_within_the_picture() -> None:
    for pair in re.findall(r"[\d.-]+,[\d.-]+", " ".join(re.findall('points="([^"]*)"', pictures(found())))):
        x, y = map(float, pair.split(","))
        assert 0 <= x <= 560 and 0 <= y <= 180
