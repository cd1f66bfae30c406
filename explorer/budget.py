"""Budget → recipe: which bits each group of matrices gets, so that the predictions suffer least under so many bytes, or
so that the file is smallest at no more than so many nats.

What a matrix alone does to the predictions is measured once, on calibration text and in float32 (bfloat16's rounding
does as much as one matrix at 3 bits), and scaled by the error of its outputs at other widths (the KL of a small change
grows with its square); the parts are taken to add up. Choosing is an integer program
with one option for each group, solved by HiGHS; a new budget is a new solution, not a new measurement.
"""

import copy
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import nn

from explorer.files import replacing
from explorer.layers.storage import Spec, encode, stored_bytes
from explorer.layers.targets import Target, siblings, targets, weight_of
from explorer.measure import layers, quality
from explorer.model.preflight import check_memory
from explorer.recipe import Recipe
from explorer.records import Reading
from explorer.workbench import Workbench

VERSION = 2
WIDTHS = (2, 3, 4, 5, 6, 8)
MEASURED = Recipe(bits=3, head_bits=3)  # where every matrix is swapped in by itself
PROBE_TEXTS, PROBE_TOKENS = 4, 96  # of calibration text, tokens of each
GAP = 1e-4  # how far from the best a solution may be
SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Option:
    """One width for one group of matrices: bytes of all of them, and nats that they alone are expected to cost."""

    bits: int
    size: int
    kl: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The options of matrices that are stored alike, since they get the same input and are multiplied together."""

    names: tuple[str, ...]
    options: tuple[Option, ...]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A recipe with what is expected of it; `runner_up` is the best with one width for all layers."""

    recipe: Recipe
    size: Reading
    kl: Reading
    runner_up: "Choice | None" = None


def curves(bench: Workbench, folder: Path) -> Iterator[float | list[Curve]]:
    """Measure each matrix once, or take what an earlier call has kept; yields the share done, at the end the curves.
    ValueError before the facts are known."""
    if bench.prepared < 1:
        raise ValueError("This needs the calibration, which is not done yet.")
    file = folder / f"{bench.fingerprint}.json"
    known = _read(file)
    if not known:
        built, count = bench.variants.unsettled(MEASURED), len(targets(bench.loaded.model))
        for row in bench.steps(_measured(bench, built.model)):
            known.append(row)
            yield len(known) / count
        with replacing(file) as partial:
            partial.write_text(json.dumps({"version": VERSION, "rows": known}), encoding="utf-8")
    yield _grouped(bench, known)


def _measured(bench: Workbench, unsettled: nn.Module) -> Iterator[dict[str, Any]]:
    """What is kept of each matrix: its name, shape, KL alone, and the power of its error by width."""
    base, windows = bench.loaded.model, [w[0] for w in bench.facts.windows if w.shape[1] >= PROBE_TOKENS]
    ids = torch.stack([window[:PROBE_TOKENS] for window in windows[:PROBE_TEXTS]])
    check_memory(8 * sum(p.numel() for p in base.parameters()))
    exact, small = copy.deepcopy(base).float(), quality.decoded(unsettled).float()
    for target, kl in layers.alone(exact, small, targets(base), ids):
        yield {"name": target.name, "kl": kl} | _errors(bench, target)


@torch.no_grad()
def _errors(bench: Workbench, target: Target) -> dict[str, Any]:
    """The power of a matrix's output error at each width, E‖(W − Ŵ) x‖², and its shape."""
    facts, name, inside = bench.facts, target.name, target.kind in ("attention", "mlp")
    weight = weight_of(bench.loaded.model.get_submodule(name))
    gram, errors = facts.gram(name) if inside else None, dict[str, float]()
    for bits in WIDTHS:
        spec = Spec(bits=bits, group=0 if bits == 8 else 64)
        grid = facts.grid(name, weight, bits, spec.group) if inside else None
        lost = encode(weight, spec, None, grid).dense().float() - weight.float()
        power = lost.square() if gram is None else (lost @ gram) * lost
        errors[str(bits)] = max(float(power.sum()), 0.0)
    return {"errors": errors, "shape": list(target.shape)}


def _grouped(bench: Workbench, known: Sequence[Mapping[str, Any]]) -> list[Curve]:
    groups = {name: tuple(group) for group in siblings(bench.loaded.model) for name in group}
    element, by_name = next(bench.loaded.model.parameters()).element_size(), {row["name"]: row for row in known}
    found: dict[tuple[str, ...], Curve] = {}
    for name in by_name:
        names = groups.get(name, (name,))
        if names not in found:
            options = [_option([by_name[each] for each in names], bits, element) for bits in WIDTHS]
            found[names] = Curve(names=names, options=tuple(options))
    return list(found.values())


def _option(rows: Sequence[Mapping[str, Any]], bits: int, element: int) -> Option:
    spec = Spec(bits=bits, group=0 if bits == 8 else 64)
    size = sum(stored_bytes((row["shape"][0], row["shape"][1]), spec, element) for row in rows)
    at = str(MEASURED.bits)
    kl = sum(row["kl"] * row["errors"][str(bits)] / max(row["errors"][at], 1e-30) for row in rows)
    return Option(bits=bits, size=size, kl=kl)


def solve(found: Sequence[Curve], *, size: float | None = None, kl: float | None = None) -> list[Option]:
    """One option for each curve: least nats within `size` bytes, or least bytes within `kl` nats. ValueError where
    nothing is small, or near, enough."""
    options = [(place, option) for place, curve in enumerate(found) for option in curve.options]
    sizes, nats = (np.array([getattr(o, word) for _, o in options], dtype=float) for word in ("size", "kl"))
    one_each = np.zeros((len(found), len(options)))
    one_each[[place for place, _ in options], range(len(options))] = 1
    aim, held, most = (nats, sizes, size) if size is not None else (sizes, nats, kl)
    assert most is not None
    limit = most
    while True:
        result = milp(
            aim / max(float(aim.max()), 1e-30),
            constraints=[
                LinearConstraint(one_each, 1, 1),
                LinearConstraint(held[None] / max(limit, 1e-30), -np.inf, 1),
            ],
            integrality=np.ones(len(options)),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": GAP, "time_limit": SECONDS},
        )
        if result.x is None:
            least = sum(min(getattr(o, "kl" if size is None else "size") for o in curve.options) for curve in found)
            words = f"{least:.4f} nats" if size is None else f"{least / 1e6:.1f} MB for the matrices"
            raise ValueError(f"No choice of bits keeps this budget; the least is {words}.")
        taken = result.x > 0.5
        if held[taken].sum() <= most:
            return [option for (_, option), one in zip(options, taken, strict=True) if one]
        limit -= held[taken].sum() - most + 1e-7 * most  # the solver keeps a limit to a millionth only


def choose(
    bench: Workbench, found: Sequence[Curve], *, size: float | None = None, kl: float | None = None, level: str = "best"
) -> Choice:
    """The recipe under `size` bytes of the whole file, or at most `kl` nats, and the best uniform one beside it."""
    rest = bench.preview(Recipe()).file_bytes.value - _matrices(bench, found)
    chosen = solve(found, size=None if size is None else size - rest, kl=kl)
    quant = "gptq" if level == "best" else "search"
    recipe = _recipe(found, chosen, quant)
    uniform = []
    for bits in WIDTHS:
        for head in WIDTHS:
            same = [_at(curve, head if _outside(bench, curve) else bits) for curve in found]
            each = _told(bench, Recipe(bits=bits, head_bits=head, quant=quant), same)
            if (each.size.value <= size) if size is not None else (each.kl.value <= (kl or 0)):
                uniform.append(each)
    best = min(uniform, key=lambda c: (c.kl if size is not None else c.size).value, default=None)
    told = _told(bench, recipe, chosen)
    return Choice(recipe=told.recipe, size=told.size, kl=told.kl, runner_up=best)


def _matrices(bench: Workbench, found: Sequence[Curve]) -> int:
    names = {name for curve in found for name in curve.names}
    element = next(bench.loaded.model.parameters()).element_size()
    return sum(t.shape[0] * t.shape[1] * element for t in targets(bench.loaded.model) if t.name in names)


def _told(bench: Workbench, recipe: Recipe, chosen: Sequence[Option]) -> Choice:
    nats = Reading(value=sum(option.kl for option in chosen), unit="nats", how="estimated")
    return Choice(recipe=recipe, size=bench.preview(recipe).file_bytes, kl=nats)


def _recipe(found: Sequence[Curve], chosen: Sequence[Option], quant: str) -> Recipe:
    """The most frequent width for all, and an exception for every other group."""
    usual = Counter(option.bits for option in chosen).most_common(1)[0][0]
    layers = [
        f"{name}=bits:{option.bits}"
        for curve, option in zip(found, chosen, strict=True)
        for name in curve.names
        if option.bits != usual
    ]
    return Recipe(bits=usual, head_bits=usual, quant=quant, layers=tuple(layers))


def _outside(bench: Workbench, curve: Curve) -> bool:
    kinds = {t.name: t.kind for t in targets(bench.loaded.model)}
    return kinds[curve.names[0]] in ("embedding", "head")


def _at(curve: Curve, bits: int) -> Option:
    return next(option for option in curve.options if option.bits == bits)


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["version"] != VERSION:
            return []
        for row in kept["rows"]:
            sound = isinstance(row["name"], str) and len(row["shape"]) == 2 and float(row["kl"]) >= 0
            if not sound or not all(float(row["errors"][str(bits)]) >= 0 for bits in WIDTHS):
                return []
        return list(kept["rows"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
