"""Many settings, one after another: a grid, or a search that looks where size and distance (and time) promise a better
compromise. The table on disk is all there is to resume from: what is in it is not measured again."""

import importlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

from explorer.studies.session import command
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

START = b'{"key": '
ASKED = 20  # suggestions that were tried before, until one is drawn
WORST = 1e9  # stands for a distance that is no number
Row = dict[str, Any]
Suggest = Callable[[Mapping[Recipe, Sequence[float]]], Recipe | None]


@dataclass(frozen=True, kw_only=True)
class Step:
    """How far a sweep is: settings done of `total`, the share of the one at hand, and its row once it is on disk."""

    done: int
    total: int
    recipe: Recipe
    share: float = 0.0
    row: Row | None = None


class Table:
    """Rows by key in a file of one JSON object a line, only ever appended to, each on disk before the next is begun.

    A last line without its end is what a kill has left of a row: it is dropped, and that row is measured again.
    ValueError where the file is something else, which is then left as it is.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.rows = file, dict[str, Row]()
        content = file.read_bytes() if file.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = json.loads(line)
                self.rows[row["key"]] = row
                Recipe.from_dict(row["recipe"])
            except (ValueError, KeyError, TypeError):
                sentence = f"Line {number} of {file.name} is no row of a sweep; choose another file."
                raise ValueError(sentence) from None
        torn = content[len(whole) :]
        if torn and not self.rows and not torn.startswith(START[: len(torn)]):
            raise ValueError(f"{file.name} is no table of a sweep; choose another file.")
        if torn:
            os.truncate(file, len(whole))

    def add(self, key: str, row: Row) -> None:
        """`row` at the end of the file, and on disk."""
        row = {"key": key} | row
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab") as out:
            out.write(json.dumps(row).encode() + b"\n")
            out.flush()
            os.fsync(out.fileno())
        self.rows[key] = row


def run(
    bench: Workbench,
    table: Table,
    recipes: Sequence[Recipe],
    *,
    tokens: int,
    rounds: int,
    search: int = 0,
) -> Iterator[Step]:
    """Measure all recipes, or the `search` most promising of them, that the table does not hold for this model, these
    texts, `tokens` and `rounds` (0: not timed); a setting that does not go on this model is a row with its `problem`.
    ValueError where Optuna is asked for and missing."""
    measured_on = f"{bench.fingerprint} {bench.text_name} {tokens} {rounds}"
    keys = {recipe: f"{measured_on} {recipe.to_query()}" for recipe in recipes}
    total = min(search or len(recipes), len(recipes))
    suggest = _suggestions(recipes) if search else None
    for done, recipe in enumerate(_chosen(table, keys, total, suggest)):
        if keys[recipe] not in table.rows:
            about = {"fingerprint": bench.fingerprint, "model": bench.name, "recipe": recipe.to_dict()}
            try:
                for share in bench.apply(recipe):
                    yield Step(done=done, total=total, recipe=recipe, share=share)
                yield Step(done=done, total=total, recipe=recipe, share=1.0)
                record = bench.measure(recipe, tokens=tokens, rounds=rounds)
                row = about | record.to_dict() | {"command": command(bench, record)}
            except ValueError as problem:
                row = about | {"problem": str(problem)}
            table.add(keys[recipe], row)
        yield Step(done=done + 1, total=total, recipe=recipe, row=table.rows[keys[recipe]])


def _chosen(table: Table, keys: Mapping[Recipe, str], total: int, suggest: Suggest | None) -> Iterator[Recipe]:
    """All in turn; or what is in the table first, then one suggestion after another."""
    if suggest is None:
        yield from keys
        return
    known = [recipe for recipe, key in keys.items() if key in table.rows]
    order = list(table.rows)
    known.sort(key=lambda recipe: order.index(keys[recipe]))
    yield from known[:total]
    tried = {recipe: objectives(table.rows[keys[recipe]]) for recipe in known}
    while len(tried) < total and (recipe := suggest(tried)):
        yield recipe
        tried[recipe] = objectives(table.rows[keys[recipe]])


def objectives(row: Mapping[str, Any]) -> list[float]:
    """What a search makes small: file bytes, KL in nats, and ms per token where it was timed."""
    if "problem" in row:
        return [WORST, WORST]
    found = [row["size"]["file_bytes"], row["quality"]["kl"]]
    if row.get("speed"):
        found.append(row["speed"]["ms_per_token"]["median"])
    return [float(value) if value is not None and math.isfinite(value) else WORST for value in found]


def _suggestions(recipes: Iterable[Recipe]) -> Suggest:
    """Optuna's multi-objective TPE (Ozaki et al., 2022, JAIR 73) over the values that these recipes differ in. What it
    suggests depends on what was tried and on nothing else, so that a search resumed is the search that was killed."""
    if not find_spec("optuna"):
        raise ValueError("A search needs Optuna: python -m pip install 'size-explorer[search]'; a grid needs nothing.")
    optuna: Any = importlib.import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    points, distributions = _space(list(recipes), optuna.distributions)
    by_point = {tuple(point.values()): recipe for recipe, point in points.items()}

    def suggest(tried: Mapping[Recipe, Sequence[float]]) -> Recipe | None:
        left = [recipe for recipe in points if recipe not in tried]
        width = max(map(len, tried.values()), default=2)
        sampler = optuna.samplers.TPESampler(seed=len(tried), n_startup_trials=min(10, 2 + len(points) // 4))
        study = optuna.create_study(directions=["minimize"] * width, sampler=sampler)
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params=points[recipe],
                    distributions=distributions,
                    values=[*found, *[WORST] * (width - len(found))],
                )
                for recipe, found in tried.items()
            ]
        )
        for _ in range(ASKED if left else 0):
            asked = study.ask(distributions).params
            recipe = by_point.get(tuple(asked[name] for name in distributions))
            if recipe is not None and recipe not in tried:
                return recipe
        return Random(len(tried)).choice(left) if left else None

    return suggest


def _space(recipes: Sequence[Recipe], kinds: Any) -> tuple[dict[Recipe, dict[str, Any]], dict[str, Any]]:
    """Each recipe as a point, and the range of each of its coordinates: numbers by their place in order."""
    dicts = {recipe: recipe.to_dict() for recipe in recipes}
    distributions: dict[str, Any] = {}
    places: dict[str, dict[str, Any]] = {}
    for name in next(iter(dicts.values())):
        values = list({json.dumps(found[name]): found[name] for found in dicts.values()}.values())
        if len(values) < 2:
            continue
        if all(isinstance(value, int | float) for value in values):
            places[name] = {json.dumps(value): place for place, value in enumerate(sorted(values))}
            distributions[name] = kinds.IntDistribution(0, len(values) - 1)
        else:
            places[name] = {json.dumps(value): json.dumps(value) for value in values}
            distributions[name] = kinds.CategoricalDistribution(list(places[name]))
    points = {
        recipe: {name: known[json.dumps(found[name])] for name, known in places.items()}
        for recipe, found in dicts.items()
    }
    return points, distributions
