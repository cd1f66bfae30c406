"""Numbers of a report with their badges, and where two texts part."""

import pytest

from explorer.formats.report_html import number, shared
from explorer.values.reading import Reading
from explorer.values.written import Pair

KL = Reading(value=0.0123, unit="nats", how="measured", low=0.01, high=0.02, n=1000)


def test_a_number_says_how_it_was_obtained_and_where_asked_its_ends() -> None:
    plain, whole = number(KL), number(KL, interval=True)
    assert '<span class="number">0.0123</span><span class="badge measured">measured</span>' in plain
    assert whole.startswith(plain) and whole.endswith('<small class="ends">0.0100 to 0.0200</small>')
    assert 'title="measured; 0.0100 to 0.0200; n = 1,000"' in plain


def test_a_number_without_ends_shows_none() -> None:
    bare = Reading(value=2, unit="USD", how="calculated")
    assert number(bare, interval=True) == number(bare) and "calculated" in number(bare)


@pytest.mark.parametrize(
    ("original", "compressed", "same"),
    [
        ("the cat sat", "the cat ran", "the cat "),
        ("the cat", "the cats sat", "the "),
        ("the cat", "the cat", "the cat"),
        ("a", "b", ""),
        ("", "b", ""),
    ],
)
def test_texts_part_between_words(original: str, compressed: str, same: str) -> None:
    assert original[: shared(Pair(prompt="", original=original, compressed=compressed))] == same
