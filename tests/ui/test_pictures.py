"""Pictures: their numbers are those of their tables, names stay text, what is no number does no harm."""

import json
import math
from html.parser import HTMLParser
from typing import Any

import plotly.graph_objects as go
import pytest

from explorer.ui import drawings
from explorer.ui.panels import figures, layers, requirements, speed
from explorer.ui.pictures import LONGEST, About, Picture, shown
from explorer.values.footprint import Breakdown
from explorer.values.performance import Performance
from explorer.values.quality import Contributions, Slice
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.values.units import plain
from tests.ui.panels.test_layers import row
from tests.ui.panels.test_requirements import ASK
from tests.ui.panels.test_speed import found as performance  # noqa: F401
from tests.ui.test_markup import HOSTILE, tags

ABOUT = About(model="tiny", setting="4 bits")


class Drawn(HTMLParser):
    """What a browser reads: the attributes of each picture, and the numbers in its table."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.pictures: list[dict[str, Any]] = []
        self.numbers: list[set[str]] = []
        self.counts = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "size-picture":
            self.pictures.append(dict(attrs))
            self.numbers.append(set())
        self.counts = ("class", "number") in attrs

    def handle_data(self, data: str) -> None:
        if self.counts and self.numbers:
            self.numbers[-1].add(data)

    def traces(self, place: int = 0) -> list[dict[str, Any]]:
        figure = json.loads(self.pictures[place]["figure"])
        go.Figure(figure["data"], figure["layout"])  # refuses what plotly does not know
        return list(figure["data"])


def reading(value: float, unit: str = "bytes", **ends: float) -> Reading:
    return Reading(value=value, unit=unit, how="measured", **ends)  # type: ignore[arg-type]


def told(values: list[float], unit: str, scale: float = 1.0) -> list[str]:
    return [plain(reading(value * scale, unit), value * scale) for value in values]


def test_what_breaks_first_has_the_tables_numbers_and_intervals() -> None:
    parts = [
        Slice(
            kind=kind, kl=reading(kl, "nats", low=kl - 0.1, high=kl + 0.3), **dict.fromkeys(LOST, reading(0.5, "share"))
        )
        for kind, kl in (("code", 1.5), ("french", 0.7), ("<b>story", 0.25))
    ]
    drawn = Drawn(figures.breaks_first(parts, ABOUT))
    (bars,) = drawn.traces()
    assert bars["x"] == [1.5, 0.7, 0.25] and bars["y"][2] == "&lt;b&gt;story"
    ends = [v + e for v, e in zip(bars["x"], bars["error_x"]["array"], strict=True)]
    starts = [v - e for v, e in zip(bars["x"], bars["error_x"]["arrayminus"], strict=True)]
    assert {*told(bars["x"] + ends + starts, "nats"), *bars["text"]} <= drawn.numbers[0]


LOST = ("top1_agreement", "lost", "gained")


def test_areas_are_the_parts_and_the_frames_the_files() -> None:
    parts = {"mlp": reading(40e6), "embedding": reading(20e6), "rest": reading(4e6)}
    known = Breakdown(file_bytes=reading(64e6), parts=parts, entropy_bytes=reading(60e6))
    drawn = Drawn(figures.bytes_by_part(known, reading(256e6), ABOUT))
    (areas,) = drawn.traces()
    assert areas["values"] == [40e6, 20e6, 4e6] and {*told(areas["values"], "bytes")} <= drawn.numbers[0]
    outer, inner = json.loads(drawn.pictures[0]["figure"])["layout"]["shapes"]
    assert outer["x1"] * outer["y1"] == 1 and inner["x1"] * inner["y1"] == pytest.approx(64 / 256)
    assert areas["domain"] == {"x": [0, inner["x1"]], "y": [0, inner["y1"]]}
    assert {"256.0 MB", "64.0 MB"} <= drawn.numbers[0]


def test_steps_of_a_waterfall_lead_from_the_original_to_the_setting() -> None:
    sizes = {"pruning": reading(270e6), "bits": reading(120e6), "head bits": reading(85e6)}
    drawn = Drawn(figures.saved(reading(269e6), sizes, ABOUT))
    (fall,) = drawn.traces()
    first, *steps, last = fall["x"]
    assert first + sum(steps) == pytest.approx(last) and steps[0] == pytest.approx(1.0)
    assert {*told(fall["x"], "bytes", 1e6)} <= drawn.numbers[0] and fall["text"][1] == "+1.0 MB"
    alone = {"bits": reading(0.2, "nats"), "pruning": reading(0.6, "nats")}
    found = Contributions(alone=alone, interaction=reading(-0.1, "nats"), together=reading(0.7, "nats"))
    drawn = Drawn(figures.did(found, ABOUT))
    (fall,) = drawn.traces()
    assert sum(fall["x"][:-1]) == pytest.approx(fall["x"][-1])
    assert {*told(fall["x"], "nats")} <= drawn.numbers[0]


def test_times_by_part_stand_against_the_machines_limit(performance: Performance) -> None:  # noqa: F811
    drawn = Drawn(speed.tables(performance))
    *parts, limit = drawn.traces(0)
    assert {*told([x for part in parts for x in part["x"]] + limit["x"], "ms")} <= drawn.numbers[0]
    (grid,) = drawn.traces(1)
    words = dict(zip(grid["y"], grid["text"], strict=True))
    assert words["decode, 1 at once"] == ["▲ 1.50×"] and words["decode, 4 at once"] == ["▼ 0.70×"]
    assert words["prefill, 1 at once"] == ["= 1.01×"]
    shades = dict(zip(grid["y"], grid["z"], strict=True))
    assert shades["decode, 1 at once"][0] > 0 > shades["decode, 4 at once"][0] and shades["prefill, 1 at once"] == [0]
    assert {cell for line in grid["hovertext"] for cell in line} <= drawn.numbers[1]


def test_five_costs_of_both_models_are_the_tables() -> None:
    drawn = Drawn(requirements.tables(ASK, 10**10))
    _, large, small = drawn.traces()
    assert large["name"] == "falcon-180B" and len(large["x"]) == len(small["x"]) == 5
    known = [x for side in (large, small) for x in side["x"] if x is not None]
    assert {*told(known, "USD")} <= drawn.numbers[0] and min(known) > 0
    assert all(a is None or b is None or a >= b for a, b in zip(large["x"], small["x"], strict=True))


def test_layers_and_techniques_add_up_by_block() -> None:
    rows = [row(f"model.layers.{b}.mlp.{kind}", kl) for b, kl in ((0, 0.1), (1, 2.0)) for kind in ("up", "down")]
    by = {"all together": [*rows, row("lm_head", 0.5)], "bits": rows}
    drawn = Drawn(shown(layers.each_technique(by), ABOUT, layers.technique_table(by)))
    (grid,) = drawn.traces()
    assert grid["x"] == ["0", "1", "outside"] and grid["y"] == ["all together", "bits"]
    assert [[round(10**z, 6) if z is not None else None for z in line] for line in grid["z"]] == [
        [0.2, 4.0, 0.5],
        [0.2, 4.0, None],
    ]
    assert {cell for line in grid["hovertext"] for cell in line if cell} == drawn.numbers[0] - {"…"}


def test_what_is_no_number_is_drawn_nowhere_and_told() -> None:
    for value in (math.nan, math.inf):
        some = {"a": reading(value, "nats"), "b": reading(0.5, "nats")}
        for picture in (
            drawings.bars("n", "t", "", some, "KL"),
            drawings.waterfall("n", "t", "", {}, some, {"all": reading(value, "nats")}, "KL"),
            drawings.pairs("n", "t", "", {"one": some}, "KL"),
            layers.each_layer([row("model.layers.0.up", value), row("model.layers.1.up", 0.1)]),
        ):
            html = shown(picture, ABOUT, "")
            assert "NaN" not in html and "Infinity" not in html
            Drawn(html).traces()
    assert "a not a number" in drawings.bars("n", "t", "", {"a": reading(math.nan, "nats")}, "KL").says


@pytest.mark.parametrize("text", HOSTILE)
def test_names_of_models_settings_and_parts_stay_text(text: str) -> None:
    picture = drawings.bars(text, text, text, {text: reading(0.5, "nats")}, text)
    html = shown(picture, About(model=text, setting=text), "")
    assert {tag for tag, _ in tags(html)} == {"size-picture"}
    (found,) = Drawn(html).pictures
    assert found["name"] == text and text in found["margin"] and "<" not in "".join(Drawn(html).traces()[0]["y"])


def test_the_margin_names_model_setting_date_and_badges() -> None:
    picture = Picture(
        name="n",
        title="t",
        note="",
        data=[],
        layout={},
        told=[("a", reading(1.0)), ("b", Reading(value=1.0, unit="bytes", how="estimated"))],
        height=100,
    )
    (found,) = Drawn(shown(picture, About.of("org/Model", Recipe(bits=4)), "")).pictures
    model, setting, date, badges = found["margin"].split(" · ")
    assert (model, badges) == ("Model", "measured, estimated") and setting.startswith("4 bits") and len(date) == 10
    long = Drawn(shown(picture, About(model="m", setting="x" * 1000), "")).pictures[0]
    assert len(long["margin"]) < LONGEST + 60


def test_many_numbers_are_told_by_the_least_and_the_most() -> None:
    picture = layers.each_layer([row(f"model.layers.{b}.up", b / 10) for b in range(1, 40)])
    assert "up, 1 " in picture.says and "up, 39 " in picture.says and "up, 20 " not in picture.says
