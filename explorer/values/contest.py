"""A compressed model against a rival: what each costs and how well it predicts, as values. Knows no torch and no HTML.

Tokenizers may differ, so quality is in bits per byte; and nothing is fair between models of different cost, so the
rival meets the best setting that costs no more than it does, once by bytes, once by time and once by FLOPs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from explorer.values.reading import Reading
from explorer.values.recipe import Recipe

Budget = Literal["file_bytes", "ms_per_token", "flops_per_token"]
BUDGETS: tuple[Budget, ...] = ("file_bytes", "ms_per_token", "flops_per_token")
Verdict = Literal["better", "worse", "no clear difference", "none as cheap"]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One model that was run: `recipe` is None for the rival. `parameters` as a file keeps them."""

    name: str
    recipe: Recipe | None
    file_bytes: Reading
    parameters: Reading
    ms_per_token: Reading
    flops_per_token: Reading
    bits_per_byte: Reading
    difference: Reading | None = None  # its bits per byte less the rival's, paired on the same text


@dataclass(frozen=True, kw_only=True)
class Match:
    """The best of ours that costs no more than the rival by one budget; None where nothing tried is as cheap."""

    budget: Budget
    best: Contender | None

    @property
    def verdict(self) -> Verdict:
        """Ours: better or worse only where the whole interval of the difference says so."""
        if self.best is None:
            return "none as cheap"
        told = self.best.difference
        if told is None or told.low is None or told.high is None or told.low <= 0 <= told.high:
            return "no clear difference"
        return "better" if told.high < 0 else "worse"


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Everything on the same `count` bytes of text; `note` says what a reader must know about the rival's copy, and
    `bytes_per_token` how long the original's tokens are."""

    rival: Contender
    ours: tuple[Contender, ...]
    count: int
    bytes_per_token: float
    note: str = ""

    @property
    def matches(self) -> tuple[Match, ...]:
        return tuple(Match(budget=budget, best=_best(self.ours, self.rival, budget)) for budget in BUDGETS)

    @property
    def perplexity_ratio(self) -> float:
        """The rival's perplexity over the original's, were both in the original's tokens: 2^(bits of a token more)."""
        original = next(one for one in self.ours if one.recipe == Recipe())
        apart = self.rival.bits_per_byte.value - original.bits_per_byte.value
        return float(2.0 ** min(apart * self.bytes_per_token, 1000.0))

    def to_dict(self) -> dict[str, Any]:
        """Readings as their fields, recipes as theirs."""
        matches = {m.budget: {"verdict": m.verdict, "best": m.best and m.best.name} for m in self.matches}
        sides = {"rival": _plain(self.rival), "ours": [_plain(one) for one in self.ours]}
        return sides | {"matches": matches, "bytes": self.count, "note": self.note}


def _best(ours: Sequence[Contender], rival: Contender, budget: Budget) -> Contender | None:
    """Of those that cost no more, the one with the fewest bits per byte."""
    cheap = [one for one in ours if getattr(one, budget).value <= getattr(rival, budget).value]
    sound = [one for one in cheap if one.bits_per_byte.value == one.bits_per_byte.value]
    return min(sound or cheap, key=lambda one: one.bits_per_byte.value, default=None)


def _plain(one: Contender) -> dict[str, Any]:
    readings = {name: vars(value) for name, value in vars(one).items() if isinstance(value, Reading)}
    return {"name": one.name, "recipe": one.recipe and one.recipe.to_dict()} | {
        name: _finite(values) for name, values in readings.items()
    }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN: None in its place."""
    return {name: None if value != value else value for name, value in values.items()}
