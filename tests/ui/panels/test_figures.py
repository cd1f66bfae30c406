"""The numbers in full: named as experts know them, each with its badge, every name escaped."""

import re
from dataclasses import fields, replace
from typing import get_args

import pytest

from explorer.ui.panels import figures
from explorer.values.footprint import Breakdown
from explorer.values.quality import Contributions, Quality, Slice, Verdict
from explorer.values.reading import Reading
from tests.ui.test_markup import HOSTILE, tags


def quality_of(kind: str = "code") -> Quality:
    half = Reading(value=0.5, unit="nats", how="measured", low=0.25, high=0.75, n=1024)
    part = Slice(kind=kind, kl=half, top1_agreement=half, lost=half, gained=half)
    readings = {f.name: half for f in fields(Quality) if f.type in (Reading, "Reading")}
    return Quality(**readings, tokens=1024, by_kind=(part,), noise_floor=replace(half, how="simulated"))  # type: ignore[arg-type]


def without_badges(html: str) -> str:
    rest = re.sub(r'<span class="number">[^<]+</span><span class="badge \w+"[^>]*>\w+</span>', "", html)
    return re.sub(r"<[^>]*>", " ", rest)


def test_the_statistics_are_named_as_experts_know_them_and_each_has_a_badge() -> None:
    html = figures.statistics(quality_of())
    for name in ("PPL(Q)", "ln(PPL(Q)/PPL(base))", "Mean KLD", "99.9 % KLD", "RMS Δp", "Same top p", "Noise floor"):
        assert name in html, name
    assert html.count('class="badge') == 3 * 15 and 'class="badge simulated"' in html
    assert "Not distinguishable from the original at 1,024 tokens" in html
    names = re.sub(r"9\d(\.9)? %|1,024", "", without_badges(html))
    assert not re.search(r"\d", names), names


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_every_verdict_has_its_sentence(verdict: str) -> None:
    assert figures.WORDS["statistics"]["verdict"][verdict].format(tokens="1", broken="1")


def test_what_was_not_measured_has_no_number_in_the_statistics() -> None:
    html = figures.statistics(replace(quality_of(), noise_floor=None))
    assert html.count("…") == 3 and "rounding noise was not measured" in html


@pytest.mark.parametrize("text", HOSTILE)
def test_slices_and_parts_have_badges_and_escape_their_names(text: str) -> None:
    whole = Reading(value=1000, unit="bytes", how="measured")
    breakdown = Breakdown(
        file_bytes=whole, parts={text: replace(whole, value=250)}, entropy_bytes=whole, zip_bytes=whole, notes=(text,)
    )
    for html, count in ((figures.slices(quality_of(text).by_kind), 6), (figures.parts(breakdown, whole), 10)):
        assert html.count('class="badge') == count and {"img", "script"}.isdisjoint(tag for tag, _ in tags(html))
    assert "25.0 %" in figures.parts(breakdown, whole) and "zipped" in figures.parts(breakdown, whole)


def test_contributions_are_drawn_with_what_is_left_between_them() -> None:
    readings = [Reading(value=v, unit="nats", how="measured") for v in (0.2, 0.6, -0.1, 0.7)]
    found = Contributions(
        alone={"bits": readings[0], "pruning": readings[1]}, interaction=readings[2], together=readings[3]
    )
    html = figures.contributions(found)
    assert html.count('class="badge measured"') == 4 and html.count("part more") == 3 and html.count("part less") == 1
    assert "pruning" in html and "interaction" in html and html.index("0.60") < html.index("0.70")


def test_what_a_text_takes_beside_the_weights_grows_with_it() -> None:
    def reading(value: float, how: str) -> Reading:
        return Reading(value=value, unit="bytes", how=how)  # type: ignore[arg-type]

    found = {n: (reading(n * 1e5, "calculated"), reading(n * 2e5, "estimated")) for n in (128, 1024)}
    html = figures.beside(found)
    assert "12.8 MB" in html and html.count('class="badge calculated"') == html.count('class="badge estimated"') == 2
