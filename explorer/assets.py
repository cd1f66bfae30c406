"""Where everything that is not code lives: styles, scripts, words, evaluation texts. Knows nothing else."""

import re
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
INSTALLED, CHECKOUT = HERE / "_assets", HERE.parent / "assets"  # where a wheel and where a checkout has them
FOLDER = INSTALLED if INSTALLED.is_dir() else CHECKOUT


def path(name: str) -> Path:
    return FOLDER / name


@cache
def read(name: str) -> str:
    return path(name).read_text(encoding="utf-8")


@cache
def texts(part: str) -> dict[str, list[str]]:
    """Passages by kind: `part` is `evaluation` or `calibration`."""
    return {
        file.stem: split_passages(file.read_text(encoding="utf-8"))
        for file in sorted(path(f"texts/{part}").glob("*.txt"))
    }


@cache
def lessons() -> dict[str, list[str]]:
    """What a student reads: the calibration texts, and the articles once more as public test corpora print them."""
    given = texts("calibration")
    return {**given, "spaced": [spaced(text) for text in given["articles"]]}


def spaced(text: str) -> str:
    """Signs set apart from words, and `@` around those inside words and numbers: as WikiText prints a text (Merity et
    al., arXiv 1609.07843, §4.3). A model that never met this spelling mistakes much of such a corpus."""
    inside = re.sub(r"(?<=\d)([.,])(?=\d)|(?<=\w)(-)(?=\w)", lambda sign: f" @{sign[0]}@ ", text)
    outside = re.sub(r"(?<!@)([^\w\s@'’])(?!@)", r" \1 ", inside)
    return re.sub(r"[ \t]+", " ", re.sub(r"['’]s\b", " 's", outside))


def split_passages(text: str) -> list[str]:
    """Passages of a text file, which lines of three dashes part."""
    return [passage.strip() for passage in text.split("\n---\n") if passage.strip()]
