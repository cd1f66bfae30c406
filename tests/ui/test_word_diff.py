"""Which words of two texts differ; what is written stays as it was written."""

import html
import re

import pytest

from explorer.ui.word_diff import marked, pane, same_words, words_of

CODE = "def f(x):\n    if x:\n\treturn 1\n\n    return 0  \n"
LIST = "1. one\n2. two\n   - deeper\n"
TEXTS = [
    "",
    " ",
    "a",
    "the sky is blue",
    CODE,
    LIST,
    "天空是蓝色的。",
    "السماء زرقاء",
    "สวัสดีครับ",
    "🙂 👩‍👩‍👧 ok",
    "a\u00a0b\u2003c",
    "\n\n",
]


def plain(marked_text: str) -> str:
    return html.unescape(re.sub(r"</?mark[^>]*>", "", marked_text))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("other", TEXTS)
@pytest.mark.parametrize("whole", [False, True])
def test_every_text_is_shown_as_it_was_written(text: str, other: str, whole: bool) -> None:
    assert "".join(space + letters for space, letters in words_of(text)) == text
    assert plain(marked(text, other, whole)) == text
    assert text != other or "<mark" not in marked(text, other, whole)


def test_differing_words_are_marked_and_equal_ones_are_not() -> None:
    assert marked("the sky is blue", "the sea is blue") == "the <mark>sky</mark> is blue"


def test_line_breaks_and_indentation_stay() -> None:
    assert marked("a:\n    b", "a:\n    c") == "a:\n    <mark>b</mark>"


@pytest.mark.parametrize(("mine", "theirs"), [("a\n  b", "a\n    b"), ("a b", "a\nb"), ("a\tb", "a b")])
def test_white_space_that_differs_is_marked_by_itself(mine: str, theirs: str) -> None:
    found = marked(mine, theirs)
    assert found.count("<mark") == 1 and 'class="space"' in found and found.startswith("a<mark") and found.endswith("b")


def test_one_character_of_a_script_without_spaces_is_one_mark() -> None:
    assert marked("天空是蓝色的", "天空是绿色的") == "天空是<mark>蓝</mark>色的"
    assert marked("สวัสดี", "สวัสดา").count("<mark>") == 1


def test_words_that_the_other_text_has_not_reached_are_blamed_once_it_has_ended() -> None:
    assert "mark" not in marked("the sky is blue", "the sky")
    assert marked("the sky is blue", "the sky", whole=True) == "the sky <mark>is blue</mark>"


def test_markup_in_a_text_is_text() -> None:
    shown = pane("<b>", "<i>", "<img onerror=x> a", "b", side="original")
    assert "<img" not in shown and "<b>" not in shown and "&lt;img" in shown


def test_same_words_counts_up_to_the_first_difference() -> None:
    assert same_words("a b c", "a b d") == 2
    assert same_words("a b", "a b c") == 2
    assert same_words("a b", "a b") is None
    assert same_words("天空是蓝", "天空是绿") == 3
