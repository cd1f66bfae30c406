"""What each group of matrices costs in bytes, time and nats, in every way of keeping it that a budget chooses from:
fewer bits, zeros, thin factors. And what goes with whole blocks.

What a matrix alone does to the predictions is measured once, on calibration text and in float32 (bfloat16's rounding
does as much as one matrix at 3 bits), and scaled by the error of its outputs in other ways (the KL of a small change
grows with its square); the parts are taken to add up. Times of products are those of the machine's kernel table.
"""

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explorer.files import cache_folder, replacing
from explorer.layers import choice
from explorer.layers.kernels import Decoded
from explorer.layers.linear import CompressedLinear, dtype_of
from explorer.layers.storage import Spec, empty, stored_bytes
from explorer.layers.targets import Target, blocks_of, targets, weight_of
from explorer.measure import layers, machine, quality
from explorer.model.memory import check_memory
from explorer.model.plan import plans
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

VERSION = 4
PROBE_TEXTS, PROBE_TOKENS = 4, 96  # of calibration text, tokens of each
DROPPED = (1, 2, 3)  # blocks taken out


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a matrix is kept; the fields are those of a recipe."""

    bits: int = 16
    sparsity: float = 0.0
    keep: float = 1.0
    group: int | None = None  # None: as a recipe has it that says nothing

    @property
    def plain(self) -> bool:
        """Bits and nothing else: all that an embedding and a head can have."""
        return self.sparsity == 0 and self.keep == 1

    @property
    def name(self) -> str:
        return f"{self.bits} {self.sparsity:g} {self.keep:g}" + (f" {self.group}" if self.group else "")

    @property
    def recipe(self) -> Recipe:
        """All matrices kept so, by methods that follow a hand."""
        quant, group = "search" if self.plain else "rtn", str(self.group or "auto")
        return Recipe(
            bits=self.bits, sparsity=self.sparsity, keep=self.keep, head_bits=self.bits, quant=quant, group=group
        )

    def besides(self, usual: "Way") -> str:
        """`bits:4,sparsity:0.5`: what differs from the usual."""
        own = asdict(self) | {"group": self.group or Recipe().group_size(self.bits)}
        others = (name for name in own if getattr(self, name) != getattr(usual, name))
        return ",".join(f"{name}:{own[name]:g}" for name in others)


WIDTHS = (2, 3, 4, 5, 6, 8)
FINE = 32  # weights to a scale, where the usual are 64
WAYS = (
    *(Way(bits=bits) for bits in WIDTHS),
    *(Way(bits=bits, group=FINE) for bits in (3, 4, 5, 6)),
    *(Way(bits=bits, sparsity=share) for bits, share in ((3, 0.25), (3, 0.5), (4, 0.5), (6, 0.5))),
    *(Way(bits=bits, keep=share) for bits, share in ((4, 0.9), (4, 0.7), (6, 0.8), (8, 0.6))),
)
MEASURED = Way(bits=3)  # in which every matrix is swapped in by itself
THIN = Way(bits=4, keep=0.7)  # stands for all factors where a token's time is looked at

Known = dict[str, Any]  # what a file holds
Times = dict[tuple[str, tuple[int, int]], float]  # ms of a token, by kernel and shape


@dataclass(frozen=True, kw_only=True)
class Option:
    """One way for one group of matrices: bytes of all of them, nats that they alone are expected to cost, and what
    their products take of a token's time, in ms."""

    way: Way
    size: int
    kl: float
    ms: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The options of matrices that are kept alike, since they get the same input and are multiplied together; or of
    the word table or the head, which are `outside` the blocks."""

    names: tuple[str, ...]
    options: tuple[Option, ...]
    outside: bool = False


@dataclass(frozen=True, kw_only=True)
class Trade:
    """The curves of a model from which so many blocks are gone, by the names that are left; the nats that this alone
    costs; the share of blocks, as a recipe says it."""

    curves: tuple[Curve, ...]
    kl: float = 0.0
    depth: float = 0.0


def trades(bench: Workbench, folder: Path) -> Iterator[float | list[Trade]]:
    """Measure each matrix once, and keep that for the next call, also where this one is stopped; yields the share done,
    at the end the trades, the whole model's first. ValueError before the facts are known."""
    if bench.prepared < 1:
        raise ValueError("This needs the calibration, which is not done yet.")
    file = folder / f"{bench.fingerprint}.json"
    known = _read(file)
    before = json.dumps(known)
    try:
        yield from _measured(bench, known)
    finally:
        if json.dumps(known) != before:
            with replacing(file) as partial:
                partial.write_text(json.dumps(known), encoding="utf-8")
    yield _assembled(bench, known)


def _measured(bench: Workbench, known: Known) -> Iterator[float]:
    """Fill in what is missing of the known: of each matrix its KL alone, and by way the power of its error; of each
    number of blocks gone, the KL and which names are left. Yields the share done."""
    base, rows = bench.loaded.model, known["rows"]
    found = [target for target in targets(base) if not target.tied_to]
    windows = [w[0] for w in bench.facts.windows if w.shape[1] >= PROBE_TOKENS]
    ids = torch.stack([window[:PROBE_TOKENS] for window in windows[:PROBE_TEXTS]])
    unknown = [target for target in found if target.name not in rows]
    if unknown or known["gone"] is None:
        check_memory(8 * sum(p.numel() for p in base.parameters()))
        exact = bench.engine.step(lambda: copy.deepcopy(base).float())
    if unknown:
        small = bench.engine.step(lambda: quality.decoded(bench.variants.unsettled(MEASURED.recipe).model).float())
        names = {target.name for target in unknown}
        swapped = [target for target in targets(base) if target.name in names or target.tied_to in names]
        for target, kl in bench.engine.steps(layers.alone(exact, small, swapped, ids)):
            rows[target.name] = {"kl": kl, "errors": {}}
            yield 0.6 * len(rows) / len(found)
        del small
    for done, way in enumerate(WAYS, 1):
        places = [t for t in found if way.plain or t.kind in ("attention", "mlp")]
        if any(way.name not in rows[target.name]["errors"] for target in places):
            built = bench.variants.unsettled(way.recipe).model
            for target in places:
                error = bench.engine.step(lambda built=built, target=target: _error(bench, built, target))  # type: ignore[misc]
                rows[target.name]["errors"][way.name] = error
            yield 0.6 + 0.35 * done / len(WAYS)
    if known["gone"] is None:
        lost = [bench.engine.step(lambda count=count: _without(bench, exact, ids, count)) for count in DROPPED]  # type: ignore[misc]
        known["gone"] = [one for one in lost if one]


@torch.no_grad()
def _error(bench: Workbench, built: nn.Module, target: Target) -> float:
    """E‖(W − Ŵ) x‖² of a matrix as it is stored."""
    module, plain = built.get_submodule(target.name), weight_of(bench.loaded.model.get_submodule(target.name))
    weight: Tensor = module.decoded() if isinstance(module, CompressedLinear) else module.stored.dense().float()  # type: ignore[operator, union-attr]
    lost = weight - plain.float()
    gram = bench.facts.gram(target.name) if target.kind in ("attention", "mlp") else None
    power = lost.square() if gram is None else (lost @ gram) * lost
    return max(float(power.sum()), 0.0)


def _without(bench: Workbench, exact: nn.Module, ids: Tensor, count: int) -> dict[str, Any] | None:
    """The KL with so many blocks gone, and the old name of each matrix that is left; None where that cannot be."""
    base = bench.loaded.model
    blocks = len(blocks_of(base)[1])
    depth = round(count / blocks, 2)  # a place of the slider, which stands for as many blocks where these are below 100
    try:
        smaller = bench.variants.unsettled(Recipe(depth=depth)).model
    except ValueError:
        return None
    names = {weight_of(base.get_submodule(t.name)).data_ptr(): t.name for t in targets(base) if not t.tied_to}
    left = {
        t.name: names[weight_of(smaller.get_submodule(t.name)).data_ptr()] for t in targets(smaller) if not t.tied_to
    }
    p, q = (layers.log_probabilities(each, ids) for each in (exact, copy.deepcopy(smaller).float()))
    return {"depth": depth, "kl": float((p.exp() * (p - q)).sum(1).mean()), "left": left}


def _assembled(bench: Workbench, known: Known) -> list[Trade]:
    base, times = bench.loaded.model, _times(bench)
    found = [target for target in targets(base) if not target.tied_to]
    outside = {t.name for t in found if t.kind in ("embedding", "head")}
    multiplied = {t.name for t in found if t.kind != "embedding"} | {t.tied_to for t in targets(base)}
    groups = {name: tuple(group) for group in bench.variants.siblings for name in group}
    dtype = dtype_of(base)
    kernel_of = cache(_kernel)  # for this call: a better table may change what is chosen
    options: dict[str, list[Option]] = {t.name: [] for t in found}
    for way in WAYS:
        planned = plans(targets(base), way.recipe)
        for target in found:
            row = known["rows"][target.name]
            if way.name in row["errors"]:
                factors, error = planned[target.name].factors, row["errors"][way.name]
                size = sum(stored_bytes(shape, spec, dtype.itemsize) for shape, spec in factors)
                ms = sum(_ms(times, kernel_of(*factor, dtype), factor[0], target.shape) for factor in factors)
                nats = row["kl"] * error / max(row["errors"][MEASURED.name], 1e-30)
                option = Option(way=way, size=size, kl=nats, ms=ms if target.name in multiplied else 0.0)
                options[target.name].append(option)
    cuts = [{"depth": 0.0, "kl": 0.0, "left": {name: name for name in options}}, *(known["gone"] or [])]
    result = []
    for cut in cuts:
        new_of = {old: new for new, old in cut["left"].items()}
        curves = {
            tuple(new_of[old] for old in group): _together([options[old] for old in group])
            for old in new_of
            for group in [groups.get(old, (old,))]
        }
        each = [Curve(names=names, options=of, outside=names[0] in outside) for names, of in curves.items()]
        result.append(Trade(curves=tuple(each), kl=cut["kl"], depth=cut["depth"]))
    return result


def plain_ms(bench: Workbench) -> float:
    """ms of all products of a token in the original, by the kernel table; 0 where there is none."""
    times = _times(bench)
    return sum(times.get(("dense", t.shape), 0.0) for t in targets(bench.loaded.model) if t.kind != "embedding")


def _kernel(shape: tuple[int, int], spec: Spec, dtype: torch.dtype) -> str:
    """The name that the kernel table has for what multiplies by a matrix stored so."""
    stored = empty(shape, spec, dtype)
    kind = choice.choose(stored)
    return "dense" if kind is Decoded else kind.named(stored)


def _ms(times: Times, kernel: str, shape: tuple[int, int], whole: tuple[int, int]) -> float:
    """By the table; a shape that it does not have takes what lies between its neighbours in size."""
    if not times:
        return 0.0
    if (kernel, shape) in times:
        return times[kernel, shape]
    kernel = kernel if (kernel, whole) in times else "dense"
    known = sorted((rows * columns, ms) for (name, (rows, columns)), ms in times.items() if name == kernel)
    return float(np.interp(shape[0] * shape[1], [size for size, _ in known], [ms for _, ms in known]))


def _together(group: Sequence[Sequence[Option]]) -> tuple[Option, ...]:
    """The options of matrices that are kept alike, without those that another one beats in everything."""
    sums = [
        replace(same[0], **{name: sum(getattr(o, name) for o in same) for name in ("size", "kl", "ms")})
        for same in zip(*group, strict=True)
    ]

    def beaten(one: Option, other: Option) -> bool:
        pairs = [(getattr(one, name), getattr(other, name)) for name in ("size", "kl", "ms")]
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

    def stays(one: Option) -> bool:
        return one.way.plain or one.way == THIN or not any(beaten(one, other) for other in sums)

    return tuple(filter(stays, sums))


def _times(bench: Workbench) -> Times:
    """ms of one token through one matrix, by kernel and shape."""
    about = (*machine.about(bench.loaded.model), cache_folder() / "machine")
    known = machine.recall(*about)
    if known is None:
        *_, known = bench.engine.steps(machine.measure(*about))
    return {(each.kernel, each.shape): each.ms.value for each in known.products if each.tokens == 1}


def _read(file: Path) -> Known:
    """What was kept, and nothing where that cannot be used."""
    nothing: Known = {"version": VERSION, "rows": {}, "gone": None}
    try:
        kept: Known = json.loads(file.read_text(encoding="utf-8"))
        rows, gone = kept["rows"], kept["gone"]
        sound = all(float(row["kl"]) >= 0 and all(e >= 0 for e in row["errors"].values()) for row in rows.values())
        left = all(set(cut["left"].values()) <= rows.keys() and float(cut["kl"]) >= 0 for cut in gone or ())
        return kept if kept["version"] == VERSION and sound and left else nothing
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return nothing
