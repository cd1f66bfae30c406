"""What changed on the page, as values; panels draw them. No HTML, no gradio, no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from explorer.values.contest import Contest
from explorer.values.footprint import Cost, Footprint
from explorer.values.measurement import Measurement
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.values.written import Piece

State = Literal["loading", "ready", "busy", "waits", "done", "stopped", "error"]


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The model that is there, the how manyth it is, and what the address of the visit says."""

    source: str
    notes: Sequence[str]
    query: Mapping[str, str]
    number: int = 1


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """All that is known of one setting, beside the original; `predicted` is a distance, from curves."""

    recipe: Recipe
    size: Footprint
    cost: Cost
    known: Measurement | None
    original: Measurement | None
    predicted: Reading | None


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Every setting that was tried, the one that is set now, the last rival that was met, and the bytes of the last
    budget."""

    tried: Sequence[Measurement]
    now: Recipe
    contest: Contest | None
    budget: float | None = None


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What both models have written so far."""

    recipe: Recipe
    original: Piece
    compressed: Piece


@dataclass(frozen=True)
class Status:
    """The one status line."""

    sentence: str
    state: State


@dataclass(frozen=True, kw_only=True)
class View:
    """What changed; None leaves a part as it is. `query` is the setting, for the address."""

    opened: Opened | None = None
    numbers: Numbers | None = None
    plane: Plane | None = None
    texts: Texts | None = None
    status: Status | None = None
    query: str | None = None


NOTHING = View()
Found = tuple[str | None, Status | None]  # what a study found so far, as HTML, and the status line; None: no change
