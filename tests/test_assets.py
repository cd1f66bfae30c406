"""Texts as they are kept, and as a student reads them."""

import pytest

from explorer import assets


@pytest.mark.parametrize(
    ("plain", "printed"),
    [
        ("A well-known boat, 1.5 m long.", "A well @-@ known boat , 1 @.@ 5 m long . "),
        ("It cost 5,000 (then much).", "It cost 5 @,@ 000 ( then much ) . "),
        ("Anna's dog – old – didn't bark!", "Anna 's dog – old – didn't bark ! "),
        ("one\n\ntwo  three", "one\n\ntwo three"),
    ],
)
def test_signs_stand_apart_as_public_corpora_print_them(plain: str, printed: str) -> None:
    assert assets.spaced(plain) == printed


def test_a_student_reads_the_articles_in_both_spellings() -> None:
    given, lessons = assets.texts("calibration"), assets.lessons()
    assert {name: lessons[name] for name in given} == given and lessons.keys() - given.keys() == {"spaced"}
    for plain, printed in zip(given["articles"], lessons["spaced"], strict=True):
        assert plain != printed and "".join(plain.split()) == "".join(printed.replace("@", "").split())
