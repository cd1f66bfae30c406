"""A trace on the page: every word escaped, bars that grow, every number with a badge."""

import math

from explorer.ui.panels import words
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.values.written import Guess, Place, Trace

EVIL = "<script>alert(1)</script>"


def guess(word: str, share: float) -> Guess:
    return Guess(word=word, share=Reading(value=share, unit="share", how="measured"))


def place(word: str, kl: float, other: str = "dog") -> Place:
    reading = Reading(value=kl, unit="nats", how="measured", n=1)
    return Place(word=word, kl=reading, original=(guess(word, 0.5),), compressed=(guess(other, 0.4),))


def found(*places: Place, parts: int | None = 1, again: str = "a b") -> Trace:
    return Trace(recipe=Recipe(bits=4), places=places, parts=parts, text="a b", again=again)


def test_words_of_a_model_are_text_and_nothing_else() -> None:
    html = words.tables(found(place(EVIL, 0.1, EVIL), place(f'" onload="{EVIL}', 2.0, EVIL), again=EVIL))
    assert "<script" not in html and 'onload="<' not in html and "&lt;script&gt;" in html


def test_the_further_apart_the_higher_the_bar() -> None:
    kls = [0.0, 5e-4, 0.002, 0.05, 1.0, 9.0, 1e9, math.inf]
    heights = [words.height(place("a", kl).kl) for kl in kls]
    assert heights == sorted(heights) and heights[0] == 0 and heights[-1] == words.HIGHEST
    assert words.height(place("a", math.nan).kl) == words.HIGHEST


def test_the_first_parting_is_framed_and_told() -> None:
    html = words.tables(found(place("a", 0.0), place("b", 1.0)))
    assert html.count("parting") == 1 and html.count('class="layers likeliest"') == 2
    assert html.count('class="number"') == html.count('class="badge measured"') > 0
    assert 'class="layers likeliest"' in words.tables(found(place("a", 0.0), parts=None))


def test_a_model_whose_output_is_no_number_is_told_so() -> None:
    html = words.tables(found(place("a", math.nan), place("b", math.inf)))
    assert "not a number" in html and html.count(f"--bar:{words.HIGHEST}px") == 2


def test_the_null_case_says_whether_it_is_null() -> None:
    same, other = (words.tables(found(place("a", 0.0), parts=None, again=again)) for again in ("a b", "a c"))
    assert "same text" in same and "gave another text" in other
