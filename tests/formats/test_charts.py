"""Pictures: every point and bar stands where its value says, and whatever a value is, the picture is sound."""

import math
import re
from xml.etree import ElementTree

import pytest

from explorer.formats import charts
from explorer.formats.charts import Bar, Point, Stack
from explorer.values.reading import Reading

SVG = "{http://www.w3.org/2000/svg}"
KINDS = {"original": "original", "tried": "tried", "chosen": "this one", "front": "best", "off": "beyond"}
SCRIPT = "<script>alert(1)</script>"


def nats(value: float, low: float | None = None, high: float | None = None) -> Reading:
    return Reading(value=value, unit="nats", how="measured", low=low, high=high)


def drawn(svg: str) -> ElementTree.Element:
    """The picture as XML; nothing in it stands outside its frame."""
    root = ElementTree.fromstring(svg)
    _, _, wide, high = map(float, root.attrib["viewBox"].split())
    for each in root.iter():
        for name, end in (("x", wide), ("cx", wide), ("y", high), ("cy", high)):
            assert 0 <= float(each.get(name, 0)) <= end, each.attrib
    assert {each.tag for each in root.iter()} <= {
        SVG + n for n in ("svg", "title", "path", "rect", "circle", "polygon", "text")
    }
    return root


def words(root: ElementTree.Element) -> list[str]:
    return [each.text or "" for each in root.iter(SVG + "text")]


def points(*pairs: tuple[float, float]) -> list[Point]:
    some = [Point(name=str(i), x=x, y=y, kind="tried") for i, (x, y) in enumerate(pairs, 1)]
    return [*some, Point(name="original", x=200, y=1.0, kind="original")]


def test_smaller_is_further_left_and_worse_further_up() -> None:
    root = drawn(charts.plane(points((100, 1.1), (50, 1.5)), "t", "size", "perplexity", KINDS))
    small, large = sorted(root.iter(SVG + "circle"), key=lambda each: float(each.attrib["cx"]))[:2]
    assert [*words(root)].count("1") == 1 and {"size", "perplexity", "original", "best"} <= {*words(root)}
    places = [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in root.iter(SVG + "circle")]
    assert places[-2][0] > places[-1][0] and places[-2][1] > places[-1][1]
    assert small is not large and "beyond" not in words(root)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e9])
def test_what_is_off_the_scale_stands_at_the_edge_and_says_so(value: float) -> None:
    assert "beyond" in words(drawn(charts.plane(points((100, 1.1), (50, value)), "t", "x", "y", KINDS)))


def test_names_of_points_that_lie_close_do_not_lie_on_each_other() -> None:
    root = drawn(charts.plane(points(*[(100 + i, 1.1 + i / 100) for i in range(6)]), "t", "x", "y", KINDS))
    places = [
        (float(each.attrib["x"]), float(each.attrib["y"])) for each in root.iter(SVG + "text") if each.text in "123456"
    ]
    assert len(places) == 6
    for i, one in enumerate(places):
        assert all(abs(one[0] - other[0]) >= 7 or abs(one[1] - other[1]) >= 12 for other in places[:i])


def test_a_bar_is_as_long_as_its_value_and_its_line_as_its_interval() -> None:
    some = [Bar(name="code", reading=nats(0.04, 0.03, 0.05)), Bar(name="story", reading=nats(0.02))]
    svg = charts.bars(some, "t", "KL")
    root = drawn(svg)
    long, short = (float(each.attrib["width"]) for each in root.iter(SVG + "rect"))
    assert long == pytest.approx(2 * short, rel=0.01)
    low, high = map(float, re.findall(r"M([\d.]+) [\d.]+v8", svg))
    assert (high - low) == pytest.approx(short / 2 * 2 / 2 * 2, rel=0.02)
    assert {"code", "0.0400", "KL"} <= {*words(root)}


def test_no_number_has_no_bar() -> None:
    root = drawn(charts.bars([Bar(name="a", reading=nats(math.nan)), Bar(name="b", reading=nats(0.0))], "t", "x"))
    assert "not a number" in words(root)
    assert all(float(each.attrib["width"]) == 0 for each in root.iter(SVG + "rect"))


def test_parts_of_a_stack_lie_end_to_end() -> None:
    usd = [Reading(value=value, unit="USD", how="calculated") for value in (1.0, 2.0, 3.0, 4.0, 5.0, 15.0)]
    root = drawn(charts.stacks([Stack(name="m", parts=tuple(usd[:5]), total=usd[5])], list("abcde"), "t", "USD"))
    boxes = [(float(r.attrib["x"]), float(r.attrib["width"])) for r in root.iter(SVG + "rect")][:5]
    for (x, wide), (after, _) in zip(boxes, boxes[1:], strict=False):
        assert x + wide == pytest.approx(after, abs=0.11)
    assert "15.00 USD" in words(root)


def test_names_are_words_only() -> None:
    bars = charts.bars([Bar(name=SCRIPT, reading=nats(1.0))], SCRIPT, SCRIPT)
    plane = charts.plane([Point(name=SCRIPT, x=1, y=1, kind="chosen")], SCRIPT, SCRIPT, SCRIPT, KINDS)
    for svg in (bars, plane):
        assert "<script" not in svg and SCRIPT in words(ElementTree.fromstring(svg))


@pytest.mark.parametrize("reach", [0.003, 0.05, 1.0, 7.3, 269.0, 10_569.0])
def test_ticks_are_few_round_and_reach_far(reach: float) -> None:
    found = charts.ticks(reach)
    assert found[0] == 0 and 3 <= len(found) <= 7 and found[-1] <= reach < found[-1] + found[1]


def test_the_front_is_what_nothing_beats() -> None:
    assert charts.front([(3, 1.0), (1, 3.0), (2, 2.0), (2.5, 2.5), (4, 1.0)]) == [(1, 3.0), (2, 2.0), (3, 1.0)]
