"""Which words of two texts differ."""

from explorer.ui.word_diff import marked, same_words


def test_differing_words_are_marked_and_equal_ones_are_not() -> None:
    assert marked("the sky is blue", "the sea is blue") == "the <mark>sky</mark> is blue"


def test_words_that_the_other_text_has_not_reached_are_not_blamed() -> None:
    assert "mark" not in marked("the sky is blue", "the sky")


def test_same_words_counts_up_to_the_first_difference() -> None:
    assert same_words("a b c", "a b d") == 2
    assert same_words("a b", "a b c") == 2
    assert same_words("a b", "a b") is None
