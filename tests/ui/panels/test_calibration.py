"""Tracks coloured by what was measured: in the right order, at the right places, and of numbers only."""

import re

import pytest

from explorer.ui.desk import Desk
from explorer.ui.panels import calibration

CURVES = {
    "sparsity": {0.1: 0.001, 0.3: 0.05, 0.5: 0.5, 0.7: 5.0, 0.9: 12.0},
    "bits": {8.0: 0.002, 4.0: 0.2, 2.0: 6.0},
    "keep": {0.9: 0.5, 0.6: 2.0, 0.2: 11.0},
    "head_bits": {},
}


def test_nothing_is_drawn_before_anything_is_known() -> None:
    assert calibration.style({name: {} for name in CURVES}) == ""


def test_knee_and_cliff_are_where_the_curve_crosses_them() -> None:
    found = calibration.style(CURVES)
    assert '"%: shows at 50, breaks at 70"' in found and '"%: shows at 90, breaks at 60"' in found
    assert '"16 is the original; shows at 4, breaks at 2"' in found
    track = re.search(r"#sparsity \{ --track: (.*?); \}", found)
    assert track and track[1].count("#111") == 4  # two lines of two stops


@pytest.mark.parametrize("name", ["sparsity", "keep", "bits"])
def test_every_track_goes_from_the_original_at_the_left_to_what_is_broken(name: str) -> None:
    found = calibration.style(CURVES)
    track = re.search(rf"#{name} {{ --track: (.*?); }}", found)
    assert track and "#head_bits" not in found
    colors = [color for color in re.findall(r"#[0-9a-f]{6}", track[1])]
    assert colors[0] == "#0072b2" and colors[-1] != colors[0] and len(set(colors)) >= 3
    places = [float(place) for place in re.findall(r"([\d.]+)%", track[1])]
    assert places and 0 <= min(places) < max(places) <= 100


def test_crossing_is_the_nearest_to_the_original() -> None:
    assert calibration.crossing({0.9: 0.5, 0.6: 2.0, 0.2: 11.0}, 1.0, 1.0) == 0.6
    assert calibration.crossing({0.9: 0.5}, 1.0, 1.0) is None


def test_why_preparing_ended_early_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.bench.preparation, "note", "Too little memory.")
    told, done = calibration.progress(desk.bench)
    assert "Too little memory." in told and done
