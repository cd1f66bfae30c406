"""Where everything that is not code lives: styles, scripts, words, evaluation texts. Knows nothing else."""

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "assets"


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


def split_passages(text: str) -> list[str]:
    """Passages of a text file, which lines of three dashes part."""
    return [passage.strip() for passage in text.split("\n---\n") if passage.strip()]
