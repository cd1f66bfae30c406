"""Lessons on the page: answers are links, the explanation comes after the guess, hostile addresses change nothing."""

import re

import pytest

from explorer.studies import lessons
from explorer.ui.asks import RECIPE_CONTROLS
from explorer.ui.panels import header
from explorer.values.recipe import Recipe


def test_every_lesson_is_linked_and_opens_at_every_step() -> None:
    links = header.links()
    for lesson in lessons.all_lessons():
        assert f"?lesson={lesson.name}" in links
        for number, step in enumerate(lesson.steps, 1):
            html = header.section({"lesson": lesson.name, "step": str(number)})
            assert f"{number} of {len(lesson.steps)}" in html and step.options[0] in html
            assert "then" not in re.findall('class="(\\w+)', html)


def test_a_guess_is_judged_and_explained() -> None:
    for guess, word in ((1, "No: half"), (2, "Just so"), (3, "No: half")):
        html = header.section({"lesson": "bits", "step": "1", "guess": str(guess)})
        assert word in html and 'class="then"' in html and "next" in html
        assert html.count("✓") == 1 and html.count("✗") == (guess != 2)


def test_an_answer_carries_the_setting_and_what_is_hidden() -> None:
    html = header.section({"lesson": "bits", "hide": "keep,level", "lock": "sparsity"})
    assert "bits=8&amp;" in html or "bits=8&" in html
    assert html.count("hide=keep%2Clevel") >= 3
    assert "#keep, .ticks[data-for=keep] { display: none" in html and "#sparsity, .ticks" in html
    assert html.count("pointer-events: none") == 1


@pytest.mark.parametrize("evil", ["<script>", "keep}body{display:none", "'", "*", "bits,<img src=x onerror=alert(1)>"])
@pytest.mark.parametrize("name", ["lesson", "step", "guess", "hide", "lock", "present"])
def test_hostile_addresses_are_nobody_s(name: str, evil: str) -> None:
    html = header.section({"lesson": "bits", name: evil})
    assert "<script" not in html and "<img" not in html and "body{" not in html
    rules = re.findall("#([^ ]+) {", html)
    assert set(rules) <= set(RECIPE_CONTROLS)


def test_the_last_step_has_no_next_and_no_address_no_lesson() -> None:
    assert header.section({}) == "" and header.section({"lesson": "none"}) == ""
    last = header.section({"lesson": "time", "step": "99", "guess": "2"})
    assert "2 of 2" in last and "next" not in last
    assert Recipe.from_dict({}) == Recipe()
