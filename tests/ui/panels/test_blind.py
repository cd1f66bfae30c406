"""The blind test: no name before the answer, sides by chance, every visit by itself."""

import pytest

from explorer.ui.asks import Controls
from explorer.ui.desk import Desk
from explorer.ui.panels.blind import BlindTest
from explorer.ui.view import Status


def pair(test: BlindTest, values: Controls, session: str = "a") -> tuple[str, Status]:
    *_, (html, status) = test.desk.study(values, session, lambda ask: test.pair(ask, session))
    assert status
    return html or "", status


def test_a_pair_names_nobody_before_the_answer(desk: Desk, values: Controls) -> None:
    html, status = pair(BlindTest(desk), values)
    assert 'aria-label="A"' in html and 'aria-label="B"' in html and status.state == "done"
    assert "zeros" not in html and "4 bits" not in html and "riginal" not in html


def test_an_answer_counts_once_and_sides_change(desk: Desk, values: Controls) -> None:
    test, sides = BlindTest(desk), set()
    test._chance.seed(1)
    for number in range(1, 9):
        pair(test, values)
        _, compressed = test._visit("a").waiting or (None, None)
        sides.add(compressed)
        told = test.answer(0, "a")
        assert ("Right:" in told) == (compressed == 0) and "50 % zeros" in told and f"n = {number}" in told
        assert "Ask for a pair" in test.answer(0, "a")
    assert sides == {0, 1} and len(test._visit("a").answers) == 8


def test_visitors_have_answers_of_their_own(desk: Desk, values: Controls) -> None:
    test = BlindTest(desk)
    pair(test, values, "a"), test.answer(0, "a")
    assert "Ask for a pair" in test.answer(0, "b") and not test._visit("b").answers


@pytest.mark.parametrize("same", [Controls(prompt="x", length=4)])
def test_the_original_is_not_tested_against_itself(desk: Desk, same: Controls) -> None:
    test = BlindTest(desk)
    _, status = pair(test, same)
    assert "nothing is compressed" in status.sentence and test._visit("a").waiting is None


def test_equal_texts_prove_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    write = desk.bench.write
    monkeypatch.setattr(desk.bench, "write", lambda recipe, prompt: write(None, prompt))
    _, status = pair(BlindTest(desk), Controls(bits="4", length=3))
    assert "in a row" in status.sentence and status.state == "error"
