"""The easy questions on the page: flips first, all text escaped, the answers kept."""

import re

import pytest

from explorer.measure import questions as asking
from explorer.measure.questions import summarize
from explorer.ui import desk as handlers
from explorer.ui.asks import Controls
from explorer.ui.desk import Desk
from explorer.ui.panels import questions
from explorer.values.questions import Answer, Question
from explorer.values.recipe import Recipe

EVIL = "<script>alert(1)</script>"


def answer(begins: str, original: str | None, compressed: str | None) -> Answer:
    question = Question(kind="facts", begins=begins, right="a", wrong=("b", "c", "d"))
    return Answer(question=question, original=original, compressed=compressed)


def test_what_flipped_stands_first_and_says_which_way() -> None:
    given = [answer("kept", "a", "a"), answer("back", "b", "a"), answer("gone", "a", "c"), answer("never", "b", None)]
    html = questions.tables(summarize(given, of=4))
    flipped, every = html.index("answers flipped"), html.index("<details")
    assert flipped < html.index("gone …") < html.index("back …") < every < html.index("kept …")
    assert html.index("✗</i> c") < html.index("✗</i> b") and "not a number" in html
    assert html.count('class="number"') == len(re.findall(r'class="badge (measured|calculated)', html)) > 0
    assert "So few changed" in html and "lost 1" in html


def test_all_text_is_escaped() -> None:
    html = questions.tables(summarize([answer(EVIL, EVIL, "a")], of=1))
    assert "<script" not in html and html.count("&lt;script&gt;") >= 2


def test_asking_ends_with_every_answer_kept(desk: Desk, values: Controls) -> None:
    *_, (html, status) = desk.study(values, "a", lambda ask: questions.found(desk, ask))
    assert status and status.state == "done" and "of 132 easy questions" in status.sentence and html
    kept = desk.bench.measured(desk.ask(values).recipe)
    assert kept and kept.questions and kept.questions.complete and len(kept.questions.answers) == 132


def test_stop_ends_it_and_what_was_answered_stays(
    desk: Desk, values: Controls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "TOGETHER", 20)
    monkeypatch.setattr(handlers, "UPDATE_SECONDS", 0.0)
    steps = desk.study(values, "a", lambda ask: questions.found(desk, ask))
    told = next(html for html, _ in steps if html)
    assert "Asked so far: 20 of 132" in told
    desk.stop("a")
    assert list(steps) == [(None, None)]
    assert len(next(desk.bench.questions(desk.ask(values).recipe)).answers) == 60  # 40 were, 20 more


def test_the_original_is_told_to_be_the_original(desk: Desk) -> None:
    *_, (html, _) = desk.study(Controls(), "a", lambda ask: questions.found(desk, ask))
    assert html and "Nothing is compressed" in html and desk.bench.measured(Recipe())
