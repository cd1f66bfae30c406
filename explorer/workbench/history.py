"""What was found out of each setting since the program started."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from explorer.values.measurement import Measurement
from explorer.values.quality import Quality
from explorer.values.recipe import Recipe

KEPT = 256


class History:
    """By recipe; `forgotten` is told what is dropped: the oldest, but for the original, which all are compared with."""

    def __init__(self, forgotten: Callable[[Recipe], None]) -> None:
        self._rows: dict[Recipe, Measurement] = {}
        self._forgotten = forgotten

    def get(self, recipe: Recipe) -> Measurement | None:
        """What is known of a recipe."""
        return self._rows.get(recipe)

    def rows(self) -> list[Measurement]:
        """Every setting tried."""
        return list(self._rows.values())

    def recipes(self) -> list[Recipe]:
        """Their recipes, copied at once: handlers go on adding."""
        return list(self._rows.copy())

    def add(self, before: Measurement, **found: Any) -> Measurement:
        """Keep what was found; fields add up over calls."""
        after = self._rows[before.recipe] = replace(before, **found)
        while len(self._rows) > KEPT:
            self.drop(next(recipe for recipe in self._rows if recipe != Recipe()))
        return after

    def judge_anew(self, summary: Callable[[Recipe], Quality | None]) -> None:
        """Tell every quality against what is known of the original by now."""
        for recipe, row in self._rows.copy().items():
            if row.quality:
                self._rows[recipe] = replace(row, quality=summary(recipe) or row.quality)

    def drop(self, recipe: Recipe) -> None:
        """Forget a setting."""
        self._rows.pop(recipe, None)
        self._forgotten(recipe)
