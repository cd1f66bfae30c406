"""Budget → recipe: which bits each group of matrices gets, so that the predictions suffer least under so many bytes or
so many milliseconds a token, or so that the file is smallest at no more than so many nats.

What a matrix alone does to the predictions is measured once, on calibration text and in float32 (bfloat16's rounding
does as much as one matrix at 3 bits), and scaled by the error of its outputs at other widths (the KL of a small change
grows with its square); the parts are taken to add up. Times of products are those of the machine's kernel table, and
what a token takes besides is found on one model that was really run. Choosing is an integer program with one option for
each group, solved by HiGHS; a new budget is a new solution, not a new measurement.
"""

import copy
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import nn

from explorer.files import replacing
from explorer.layers import choice
from explorer.layers.kernels import Decoded
from explorer.layers.storage import Spec, encode, stored_bytes
from explorer.layers.targets import Target, siblings, targets, weight_of
from explorer.measure import layers, machine, quality
from explorer.model import hub
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

Times = dict[tuple[str, tuple[int, int]], float]  # ms of a token, by kernel and shape


@dataclass(frozen=True, kw_only=True)
class Option:
    """One width for one group of matrices: bytes of all of them, nats that they alone are expected to cost, and what
    their products take of a token's time, in ms."""

    bits: int
    size: int
    kl: float
    ms: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The options of matrices that are stored alike, since they get the same input and are multiplied together."""

    names: tuple[str, ...]
    options: tuple[Option, ...]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """At most so many bytes of the whole file, ms a token, nats from the original; at least one of them."""

    size: float | None = None
    ms: float | None = None
    kl: float | None = None

    @property
    def aim(self) -> str:
        """What is to be least: nats, or bytes where the nats are limited."""
        return "kl" if self.kl is None else "size"

    def items(self) -> dict[str, float]:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A recipe with what is expected of it; `runner_up` is the best with one width for all layers."""

    recipe: Recipe
    size: Reading
    kl: Reading
    ms: Reading
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
    yield _grouped(bench, known, _times(bench))


def rest_ms(bench: Workbench, found: Sequence[Curve], bits: int = 4) -> float:
    """What a token takes besides its products: measured on the model of one width, less its products by the table."""
    recipe = Recipe(bits=bits, head_bits=bits)
    *_, (_, speed) = bench.time(recipe, rounds=3)
    return max(speed.ms_per_token.value - sum(_at(curve, bits).ms for curve in found), 0.0)


def _times(bench: Workbench) -> Times:
    """ms of one token through one matrix, by kernel and shape."""
    about = (*machine.about(bench.loaded.model), hub.cache_folder() / "machine")
    known = machine.recall(*about)
    if known is None:
        *_, known = bench.steps(machine.measure(*about))
    return {(each.kernel, each.shape): each.ms.value for each in known.products if each.tokens == 1}


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
        spec = _spec(bits)
        grid = facts.grid(name, weight, bits, spec.group) if inside else None
        lost = encode(weight, spec, None, grid).dense().float() - weight.float()
        power = lost.square() if gram is None else (lost @ gram) * lost
        errors[str(bits)] = max(float(power.sum()), 0.0)
    return {"errors": errors, "shape": list(target.shape)}


def _grouped(bench: Workbench, known: Sequence[Mapping[str, Any]], times: Times) -> list[Curve]:
    groups = {name: tuple(group) for group in siblings(bench.loaded.model) for name in group}
    element, by_name = next(bench.loaded.model.parameters()).element_size(), {row["name"]: row for row in known}
    kernels = {bits: _kernel(bench, bits) for bits in WIDTHS}
    found = targets(bench.loaded.model)
    looked_up = {t.name for t in found if t.kind == "embedding"} - {t.tied_to for t in found}
    curves_: dict[tuple[str, ...], Curve] = {}
    for name in by_name:
        names = groups.get(name, (name,))
        if names not in curves_:
            rows = [by_name[each] for each in names]
            shapes = [_shape(row) for row in rows if row["name"] not in looked_up]
            options = []
            for bits in WIDTHS:
                ms = sum(times.get((kernels[bits], shape), times["dense", shape]) for shape in shapes)
                options.append(replace(_option(rows, bits, element), ms=ms))
            curves_[names] = Curve(names=names, options=tuple(options))
    return list(curves_.values())


def _kernel(bench: Workbench, bits: int) -> str:
    """The name that the kernel table has for what multiplies by codes of this width."""
    weight = torch.zeros(64, 128).to(next(bench.loaded.model.parameters()))
    stored = encode(weight, _spec(bits))
    kind = choice.choose(stored)
    return "dense" if kind is Decoded else kind.named(stored)


def _spec(bits: int) -> Spec:
    return Spec(bits=bits, group=0 if bits == 8 else 64)


def _shape(row: Mapping[str, Any]) -> tuple[int, int]:
    rows, columns = row["shape"]
    return rows, columns


def _option(rows: Sequence[Mapping[str, Any]], bits: int, element: int) -> Option:
    size = sum(stored_bytes(_shape(row), _spec(bits), element) for row in rows)
    at = str(MEASURED.bits)
    kl = sum(row["kl"] * row["errors"][str(bits)] / max(row["errors"][at], 1e-30) for row in rows)
    return Option(bits=bits, size=size, kl=kl)


def solve(found: Sequence[Curve], limits: Limits) -> list[Option]:
    """One option for each curve: the least of `limits.aim` within all limits, which are those of the matrices alone.
    ValueError where nothing keeps them."""
    options = [(place, option) for place, curve in enumerate(found) for option in curve.options]
    figures = {name: np.array([getattr(o, name) for _, o in options], dtype=float) for name in ("size", "ms", "kl")}
    one_each = np.zeros((len(found), len(options)))
    one_each[[place for place, _ in options], range(len(options))] = 1
    aim, kept = figures[limits.aim], limits.items()
    while True:
        result = milp(
            aim / max(float(aim.max()), 1e-30),
            constraints=[
                LinearConstraint(one_each, 1, 1),
                *(LinearConstraint(figures[n][None] / max(most, 1e-30), -np.inf, 1) for n, most in kept.items()),
            ],
            integrality=np.ones(len(options)),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": GAP, "time_limit": SECONDS},
        )
        if result.x is None:
            raise ValueError(_why_not(found, limits))
        taken = result.x > 0.5
        over = {name: figures[name][taken].sum() - most for name, most in limits.items().items()}
        if max(over.values()) <= 0:
            return [option for (_, option), one in zip(options, taken, strict=True) if one]
        for name, by in over.items():  # the solver keeps a limit to a millionth only
            kept[name] -= (by + 1e-7 * kept[name]) * (by > 0)


def _why_not(found: Sequence[Curve], limits: Limits) -> str:
    least = {n: sum(min(getattr(o, n) for o in curve.options) for curve in found) for n in limits.items()}
    words = {
        "size": f"{least.get('size', 0) / 1e6:.1f} MB for the matrices",
        "ms": f"{least.get('ms', 0):.1f} ms a token for the matrices",
        "kl": f"{least.get('kl', 0):.4f} nats",
    }
    return f"No choice of bits keeps this budget; the least is {', '.join(words[name] for name in least)}."


def choose(
    bench: Workbench, found: Sequence[Curve], limits: Limits, *, rest: float = 0.0, level: str = "best"
) -> Choice:
    """The recipe within limits of the whole model, and the best uniform one beside it. `rest`: see `rest_ms`."""
    bytes_besides = bench.preview(Recipe()).file_bytes.value - _matrices(bench, found)
    inside = replace(
        limits,
        size=None if limits.size is None else limits.size - bytes_besides,
        ms=None if limits.ms is None else limits.ms - rest,
    )
    chosen, quant = solve(found, inside), "gptq" if level == "best" else "search"
    uniform = []
    for bits in WIDTHS:
        for head in WIDTHS:
            same = [_at(curve, head if _outside(bench, curve) else bits) for curve in found]
            each = _told(bench, Recipe(bits=bits, head_bits=head, quant=quant), same, rest)
            if all(getattr(each, name).value <= most for name, most in limits.items().items()):
                uniform.append(each)
    best = min(uniform, key=lambda c: getattr(c, limits.aim).value, default=None)
    return replace(_told(bench, _recipe(found, chosen, quant), chosen, rest), runner_up=best)


def _matrices(bench: Workbench, found: Sequence[Curve]) -> int:
    names = {name for curve in found for name in curve.names}
    element = next(bench.loaded.model.parameters()).element_size()
    return sum(t.shape[0] * t.shape[1] * element for t in targets(bench.loaded.model) if t.name in names)


def _told(bench: Workbench, recipe: Recipe, chosen: Sequence[Option], rest: float) -> Choice:
    nats, ms = (sum(getattr(option, name) for option in chosen) for name in ("kl", "ms"))
    return Choice(
        recipe=recipe,
        size=bench.preview(recipe).file_bytes,
        kl=Reading(value=nats, unit="nats", how="estimated"),
        ms=Reading(value=rest + ms, unit="ms", how="estimated"),
    )


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
