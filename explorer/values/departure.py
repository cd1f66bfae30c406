"""What leaves, as values: what a format makes of a setting, and what a file turned out to be when it was opened again
by the program that it is for."""

from dataclasses import dataclass, field
from typing import Any

from explorer.values.reading import Reading, ends


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One format for one setting, before anything is written: what stays exactly as it is, what is rounded or expanded,
    bytes of the file that holds the weights, who opens it. `grid`: the format's own one that matrices are rounded for
    as they leave; the setting itself rounds nothing then. `problem`: why it cannot be had, in one sentence."""

    format: str
    grid: str = ""
    keeps: str = ""
    rounds: str = ""
    bytes: Reading | None = None
    opened_by: str = ""
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A written file against the variant it came from, on the same tokens: KL in nats, how many of the first greedy
    tokens are the same until they part, how many texts become the same tokens (None where nobody cuts them anew)."""

    opened_by: str
    bytes: Reading
    kl: Reading
    greedy: Reading
    texts: Reading | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        found = {name: ends(value) for name, value in vars(self).items() if isinstance(value, Reading)}
        return {"opened_by": self.opened_by, "notes": list(self.notes)} | found


@dataclass(frozen=True, kw_only=True)
class Departure:
    """One format, written: the offer, where it lies, and its check."""

    offer: Offer
    folder: str
    check: Check | None = None
    notes: tuple[str, ...] = field(default=())
