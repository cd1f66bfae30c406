"""How the distance grows along each slider, measured once for each model: what follows the thumb before the real thing
is measured, and what the sliders' own tracks show."""

import json
import math
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from statistics import median
from typing import Any

from explorer.files import replacing
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.workbench.techniques import apart

VERSION = 1
POINTS: Mapping[str, tuple[float, ...]] = {
    "sparsity": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "bits": (8, 6, 5, 4, 3, 2),
    "keep": (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2),
    "head_bits": (8, 6, 5, 4, 3, 2),
}
BROKEN = 100.0  # nats that stand for a distance that is no number
REMEMBERED = 64  # predictions, and combinations that were compared with theirs


class Curves:
    """KL in nats along each slider, all others at rest. `measure` finds the KL of a recipe on always the same tokens;
    what is known is kept in `file`."""

    def __init__(self, measure: Callable[[Recipe], Iterator[Reading]], file: Path) -> None:
        self._measure, self._file = measure, file
        self._errors: dict[Recipe, float] = {}  # ln(measured / sum of the parts) of combinations
        self._told: dict[Recipe, Reading] = {}
        self.points = _read(file)

    @property
    def done(self) -> float:
        """Share of the points that is measured."""
        return sum(map(len, self.points.values())) / sum(map(len, POINTS.values()))

    @property
    def whole(self) -> dict[str, dict[float, float]]:
        """The points of each slider that was measured to its end, none of the others: half a curve misleads."""
        return {name: known if len(known) == len(POINTS[name]) else {} for name, known in self.points.items()}

    def steps(self) -> Iterator[float]:
        """Measure what is missing, slider by slider, kept point by point; yields the share done."""
        for name, value in ((name, value) for name, values in POINTS.items() for value in values):
            if value not in self.points[name]:
                known = math.nan
                for found in self._measure(Recipe(**{name: value})):  # type: ignore[arg-type]
                    known = found.value
                    yield self.done
                self.points[name][value] = known if math.isfinite(known) else BROKEN
                _write(self.points, self._file)
                yield self.done

    def predict(self, recipe: Recipe) -> Reading | None:
        """The KL to expect, or None where a curve is missing or does not speak of such a setting.

        Techniques add up; by how much they do not is learned from the combinations measured so far. Between points the
        logarithm runs straight.
        """
        parts = apart(recipe) or {"": recipe}
        found = [self._along(part) for part in parts.values()]
        if recipe == Recipe() or None in found:
            return None
        total = sum(value for value in found if value is not None)
        factor = math.exp(median(self._errors.values())) if len(parts) > 1 and self._errors else 1.0
        return Reading(value=total * factor, unit="nats", how="estimated")

    def told(self, recipe: Recipe) -> Reading | None:
        """`predict`, but once it was asked the answer stays, to be compared with what is measured then."""
        if recipe not in self._told and recipe not in self._errors:
            found = self.predict(recipe)
            if found:
                self._told[recipe] = found
                _forget_oldest(self._told)
        return self._told.get(recipe)

    def learn(self, recipe: Recipe, measured: Reading) -> None:
        """Compare a combination that was measured with the sum of its parts."""
        found = [self._along(part) for part in apart(recipe).values()]
        if found and None not in found and 0 < measured.value < math.inf:
            self._errors[recipe] = math.log(measured.value / sum(v for v in found if v))
            _forget_oldest(self._errors)

    def _along(self, recipe: Recipe) -> float | None:
        changed = {f.name for f in fields(Recipe) if getattr(recipe, f.name) != f.default}
        if len(changed) != 1 or not changed <= set(POINTS):
            return None
        name = changed.pop()
        found = between(self.points[name], getattr(recipe, name))
        return None if found is None or found > BROKEN / 2 else found


def _forget_oldest(known: dict[Recipe, Any]) -> None:
    while len(known) > REMEMBERED:
        known.pop(next(iter(known)))


def between(points: Mapping[float, float], at: float) -> float | None:
    """The value on a curve whose logarithm runs straight between its points; None beyond them."""
    if at in points:
        return points[at]
    known = sorted(points)
    place = bisect(known, at)
    if not 0 < place < len(known):
        return None
    low, high = known[place - 1], known[place]
    share = (at - low) / (high - low)
    ends = (math.log(max(points[end], 1e-9)) for end in (low, high))
    return math.exp(sum(weight * end for weight, end in zip((1 - share, share), ends, strict=True)))


def _read(file: Path) -> dict[str, dict[float, float]]:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        points = {name: {float(k): float(v) for k, v in kept["points"][name].items()} for name in POINTS}
        sound = all(v >= 0 and math.isfinite(v) and k in POINTS[n] for n, p in points.items() for k, v in p.items())
        if kept["version"] == VERSION and sound:
            return points
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return {name: {} for name in POINTS}


def _write(points: Mapping[str, Mapping[float, float]], file: Path) -> None:
    with replacing(file) as partial:
        partial.write_text(json.dumps({"version": VERSION, "points": points}), encoding="utf-8")
