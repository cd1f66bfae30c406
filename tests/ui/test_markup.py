import re
from functools import partial
from html.parser import HTMLParser

import pytest

from explorer.ui.asks import Controls
from explorer.ui.desk import Desk
from explorer.ui.markup import number, status
from explorer.ui.panels import cards, figures, header, layers, tried, words
from explorer.ui.view import Status, View
from explorer.ui.word_diff import marked, pane
from explorer.values.recipe import Recipe

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "${document.title='x'}",
    "{{value}}`${alert(1)}`",
    "</p><script>alert(1)</script>",
    '" onmouseover="alert(1)',
]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))


def tags(html: str) -> list[tuple[str, list[str]]]:
    parser = Tags()
    parser.feed(html)
    return parser.found


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_an_element_or_an_attribute(text: str) -> None:
    harmless = "plain words"
    for draw in (
        lambda t: pane(t, t, t, "other words", side="original"),
        lambda t: header.head(t, [t]),
        lambda t: status(Status(t, "done")),
        lambda t: marked(t, t + " more"),
    ):
        allowed = {"section", "h1", "h2", "p", "div", "span", "mark", "nav", "b", "a", "button"}
        assert {tag for tag, _ in tags(draw(text))} <= allowed
        assert {a for _, names in tags(draw(text)) for a in names} <= {a for _, n in tags(draw(harmless)) for a in n}


def test_every_number_on_the_cards_carries_a_badge(desk: Desk) -> None:
    recipe = Recipe(bits=4, sparsity=0.5)
    desk.bench.measure(recipe, tokens=20, rounds=1)
    html = cards.draw(View(numbers=desk.known.numbers(recipe))) or ""
    without_numbers = re.sub(r'<span class="number">[^<]+</span><span class="badge \w+"[^>]*>\w+</span>', "", html)
    visible = re.sub(r"<[^>]*>|prefill \d+|\(\d+ tokens\)|2 threads|token \d+|\d+ bits", " ", without_numbers)
    assert html.count('class="badge') >= 12
    assert not re.search(r"\d", visible), visible


def test_what_is_not_known_is_not_a_number() -> None:
    assert "…" in number(None) and "badge" not in number(None)


def test_no_number_anywhere_in_full_is_without_its_badge(desk: Desk, values: Controls) -> None:
    """What a whole visit shows, each figure drawn by `number`; left are names, counts of tokens and settings."""
    desk.preview(values, "a")
    shown = [cards.draw(view) for view in desk.live(values, "a")]
    for panel in (figures, words, layers):
        shown += [part for part, _ in desk.study(values, "a", partial(panel.found, desk))]
    shown.append(tried.settings(desk.bench).partition("</p>")[2])
    for html in filter(None, shown):
        naked = re.sub(r'<span class="number">[^<]+</span><span class="badge \w+"[^>]*>\w+</span>', "", html)
        for known in (
            r"<th.*?</th>",
            r"<p[^>]*>.*?</p>",
            r"<h2>.*?</h2>",
            r"<dt>.*?</dt>",
            r"<td>[\d×–]+</td>",
            "<[^>]*>",
        ):
            naked = re.sub(known, " ", naked, flags=re.S)  # names, sentences, and the shapes of matrices
        assert not re.search(r"\d", naked), naked


@pytest.mark.parametrize("text", HOSTILE)
def test_the_session_s_table_and_files_run_nothing(text: str, desk: Desk) -> None:
    desk.bench.record(desk.bench.variant(Recipe(bits=4)))
    html = tried.draw(desk.bench.history(), text, text)
    assert {tag for tag, _ in tags(html)} <= {
        "p",
        "a",
        "div",
        "h2",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "span",
    }
    assert "onerror" not in html and "script" not in html
