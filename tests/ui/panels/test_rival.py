"""Two models beside each other on the page: names and texts escaped, every number with a badge, a verdict in words."""

import re
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from explorer.model import downloads
from explorer.ui.asks import Controls
from explorer.ui.desk import Desk
from explorer.ui.panels import plot, rival
from explorer.ui.panels.rival import RivalPanel
from explorer.ui.view import Found
from explorer.values.contest import Contender, Contest
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe

EVIL = '"><script>alert(1)</script>'


def contender(
    name: str, cost: float, bits: float, apart: float | None = None, recipe: Recipe | None = None
) -> Contender:
    def reading(value: float, unit: str) -> Reading:
        return Reading(value=value, unit=unit, how="measured")

    told = None
    if apart is not None:
        told = Reading(value=apart, unit="bits/byte", how="measured", low=apart - 0.01, high=apart + 0.01)
    return Contender(
        name=name,
        recipe=recipe,
        file_bytes=reading(cost * 1e6, "bytes"),
        parameters=reading(1e6, "weights"),
        ms_per_token=reading(2, "ms"),
        flops_per_token=reading(1e9, "FLOP"),
        bits_per_byte=reading(bits, "bits/byte"),
        difference=told,
    )


def meet(panel: RivalPanel, values: Controls, name: object) -> Iterator[Found]:
    return panel.desk.study(values, "visit", lambda ask: panel.meet(ask, name))


def texts(html: str) -> list[tuple[str, str]]:
    """(title, text) of each that wrote."""
    return [(unescape(a), unescape(b)) for a, b in re.findall(r'<h3>(.*?)</h3><p class="text">(.*?)</p>', html, re.S)]


def contest(apart: float = -0.2, cost: float = 90) -> Contest:
    ours = contender("original", cost, 1.0 + apart, apart, Recipe())
    return Contest(rival=contender(EVIL, 100, 1.0), ours=(ours,), count=4000, bytes_per_token=4.0, note=EVIL)


def test_numbers_have_badges_and_names_are_text() -> None:
    html = rival.tables(contest()) + rival.written([(EVIL, EVIL)])
    assert "<script" not in html and html.count('class="number') == html.count('class="badge') - 3  # of three verdicts


@pytest.mark.parametrize(
    ("apart", "cost", "words"),
    [(-0.2, 90, "better by 0.20"), (0.2, 90, "worse by 0.20"), (0.0, 90, "no clear difference"), (0.2, 200, "Nothing")],
)
def test_a_verdict_says_what_must_be_equal(apart: float, cost: float, words: str) -> None:
    html = rival.tables(contest(apart, cost))
    assert words in html and all(unit in html for unit in ("bytes", "milliseconds", "FLOPs"))


def test_the_page_opens_meets_writes_and_plots(desk: Desk, values: Controls, folders: dict[str, Path]) -> None:
    page = RivalPanel(desk)
    list(desk.live(values, "visit"))
    found = list(meet(page, values, f" {folders['gpt2']} "))
    html, line = found[-1]
    assert html and line and "Compared with" in line.sentence and str(folders["gpt2"]) in html and len(texts(html)) == 3
    assert desk.known.contest and {one.recipe for one in desk.known.contest.ours} >= {Recipe(), desk.ask(values).recipe}
    plane = desk.refresh(values).plane
    assert plane
    drawn = plot.size_and_quality(plane.tried, plane.now, plane.contest)
    traces = {trace["name"]: trace for trace in drawn.data}
    assert traces["rival"]["x"] == [desk.known.contest.rival.file_bytes.value / 1e6]


def test_without_compression_the_original_and_the_rival_write(desk: Desk, folders: dict[str, Path]) -> None:
    values, name, page = Controls(prompt="the cat", length=6), str(folders["gpt2"]), RivalPanel(desk)
    html, _ = list(meet(page, values, name))[-1]
    prompt = desk.ask(values).prompt
    original, theirs = list(desk.bench.write(None, prompt))[-1].text, list(page.rivalry.write(prompt))[-1].text
    assert original != theirs and texts(html or "") == [("original", original), (name, theirs)]


def test_a_download_is_told_holds_nobody_up_and_ends_at_stop(
    desk: Desk, values: Controls, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[threading.Thread] = []

    def fetch(name: str) -> Iterator[str]:
        try:
            while True:
                assert desk.bench.engine.step(threading.current_thread) is not threading.current_thread()
                yield f"Downloading {name}."
        finally:
            ended.append(threading.current_thread())

    monkeypatch.setattr(downloads, "from_hub_before", lambda name: None)
    monkeypatch.setattr(downloads, "from_hub", fetch)
    page = RivalPanel(desk)
    found = meet(page, values, "someone/large")
    lines = [next(found)[1] for _ in range(2)]
    assert lines[1] and "Downloading someone/large." in lines[1].sentence and not ended
    desk.stop("visit")
    assert list(found) == [(None, None)] and ended == [threading.current_thread()]
    assert page.rivalry.rival is None


def test_a_rival_that_predicts_alike_lies_at_the_originals_height(desk: Desk, values: Controls) -> None:
    list(desk.live(values, "visit"))
    history = desk.bench.history()
    for apart, ratio in ((0.0, 1.0), (-0.25, 2.0)):
        figure = plot.size_and_quality(history, Recipe(), contest(apart))
        traces = {trace["name"]: trace for trace in figure.data}
        assert traces["rival"]["y"][0] == pytest.approx(ratio * traces["original"]["y"][0])
        assert "<script" not in traces["rival"]["text"][0]


@pytest.mark.parametrize("name", ["", "  ", None, "x" * 400, "no/such/model", "../nothing"])
def test_a_name_that_cannot_be_opened_is_one_sentence(desk: Desk, values: Controls, name: object) -> None:
    html, line = list(meet(RivalPanel(desk), values, name))[-1]
    assert html is None and line and line.state == "error"


def test_other_computers_open_nothing(desk: Desk, values: Controls, folders: dict[str, Path]) -> None:
    page = RivalPanel(desk, allowed=False)
    ((html, line),) = meet(page, values, str(folders["gpt2"]))
    assert html is None and line and "this computer alone" in line.sentence and page.rivalry.rival is None
