"""What models write, as values: step by step, read word by word, and how texts fall apart."""

from dataclasses import dataclass
from typing import Literal

from explorer.values.reading import Reading
from explorer.values.recipe import Recipe

STOPPED = "Stopped."  # why a text ended when somebody asked for it


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One step of a text that is being written: the whole text so far, and how long this step took."""

    text: str
    token: int
    tokens: int
    ms: float
    stopped: str = ""  # "", or why it ended, in words


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What the original and a compressed model wrote after one prompt, the likeliest token each time."""

    prompt: str
    original: str
    compressed: str


@dataclass(frozen=True, kw_only=True)
class Guess:
    """One possible next token, and its probability."""

    word: str
    share: Reading


@dataclass(frozen=True, kw_only=True)
class Place:
    """One token of the original's text: the KL there (nats), and what either model would say, likeliest first."""

    word: str
    kl: Reading
    original: tuple[Guess, ...]
    compressed: tuple[Guess, ...]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The original's text, token by token, as a compressed model reads it; `parts` is the first place where the two
    would say different things, `again` what the original writes when it is asked once more."""

    recipe: Recipe
    places: tuple[Place, ...]
    parts: int | None
    text: str
    again: str


Reason = Literal["", "repeats", "stops early", "not a number"]


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What a model wrote after one prompt; `collapsed` says how it broke: "" where it did not."""

    prompt: str
    text: str
    tokens: int
    repeated: Reading
    collapsed: Reason


@dataclass(frozen=True, kw_only=True)
class Collapse:
    """Over many prompts: shares that collapsed and that stopped early, mean share of repeated 4-grams, all texts."""

    collapsed: Reading
    early: Reading
    repeated: Reading
    texts: tuple[Writing, ...]
