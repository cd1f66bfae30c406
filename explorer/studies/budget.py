"""Budget → recipe: how each group of matrices is kept, and how many blocks, so that the predictions suffer least under
so many bytes or so many milliseconds a token, or so that the file is smallest at no more than so many nats.

What every way of keeping a group costs is known from `trade`. Choosing is an integer program with one option for each
group, solved by HiGHS, for each number of blocks; a new budget is a new solution, not a new measurement.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from explorer.layers.linear import dtype_of
from explorer.studies.trade import THIN, WAYS, Curve, Option, Trade, Way, plain_ms
from explorer.values.ranges import BEST
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

GAP = 1e-3  # how far from the best a solution may be; a tenth of it takes two to three times as long
SECONDS = 20.0
PACES = 0.5, 4.0  # products now against the kernel table; what is outside is noise


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

    def less(self, **used: float) -> "Limits":
        """What is left of them."""
        return replace(self, **{name: value - used.get(name, 0.0) for name, value in self.items().items()})


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A recipe with what is expected of it; `runner_up` is the best with one width for all layers."""

    recipe: Recipe
    size: Reading
    kl: Reading
    ms: Reading
    runner_up: "Choice | None" = None

    def keeps(self, limits: Limits) -> bool:
        return all(getattr(self, name).value <= most for name, most in limits.items().items())


def as_now(bench: Workbench, found: Sequence[Trade], bits: int = 4) -> tuple[list[Trade], float]:
    """The trades with the times that products take now, since the kernel table may be of a quicker minute, and what a
    token takes besides, in ms. Both follow from the original and the model of one width, timed in turns; what thin
    factors take, of which there are many more, from a model made of them."""
    curves = found[0].curves
    *_, (original, small) = bench.time(Recipe(bits=bits, head_bits=bits), rounds=3)
    products = sum(_at(curve, Way(bits=bits)).ms for curve in curves)
    saved, measured = plain_ms(bench) - products, original.ms_per_token.value - small.ms_per_token.value
    pace = _pace(measured, saved)
    rest = max(small.ms_per_token.value - pace * products, 0.0)
    *_, (_, thin) = bench.time(THIN.recipe, rounds=3)
    factors = sum(_at(curve, Way(bits=THIN.bits) if curve.outside else THIN).ms for curve in curves)
    thin_pace = _pace(thin.ms_per_token.value - rest, factors)
    return [_at_pace(one, pace, thin_pace) for one in found], rest


def _pace(measured: float, expected: float) -> float:
    return min(max(measured / expected, PACES[0]), PACES[1]) if expected > 0 else 1.0


def _at_pace(trade: Trade, pace: float, thin: float) -> Trade:
    curves = [
        replace(c, options=tuple(replace(o, ms=(pace if o.way.keep == 1 else thin) * o.ms) for o in c.options))
        for c in trade.curves
    ]
    return replace(trade, curves=tuple(curves))


def choose(
    bench: Workbench, found: Sequence[Trade], limits: Limits, *, rest: float = 0.0, level: str = "best"
) -> Choice:
    """The recipe within limits of the whole model, and the best with one width and one size of groups for all beside
    it. `rest`: see `as_now`. ValueError where nothing keeps them."""
    chosen, problem = list[Choice](), ""
    for trade in found:
        if any(choice.keeps(limits) and choice.kl.value <= trade.kl for choice in chosen) and limits.aim == "kl":
            continue  # its missing blocks alone cost more
        besides = bench.preview(Recipe(depth=trade.depth)).file_bytes.value - _matrices(bench, trade)
        left = rest * (1 - trade.depth)
        try:
            options = solve(trade.curves, limits, size=besides, ms=left, kl=trade.kl)
        except ValueError as none:
            problem = str(none) if limits.aim == "kl" else problem or str(none)  # fewer blocks, fewer bytes
            continue
        chosen.append(_told(bench, _recipe(trade, options, level), options, trade.kl, left))
    within = [choice for choice in chosen if choice.keeps(limits)]
    if not within:
        raise ValueError(problem or "No choice keeps this budget.")
    best = min(within, key=lambda choice: (getattr(choice, limits.aim).value, choice.recipe.depth))
    return replace(best, runner_up=_uniform(bench, found[0], limits, rest, level))


def _uniform(bench: Workbench, whole: Trade, limits: Limits, rest: float, level: str) -> Choice | None:
    """The best within limits of those with one width for all layers, one for table and head, and one size of groups."""
    besides = {"size": bench.preview(Recipe()).file_bytes.value - _matrices(bench, whole), "ms": rest}
    within = []
    for inside, outside in product([way for way in WAYS if way.plain], repeat=2):
        if inside.group != outside.group:
            continue
        same = [_at(curve, outside if curve.outside else inside) for curve in whole.curves]
        used = {n: besides.get(n, 0.0) + sum(getattr(option, n) for option in same) for n in ("size", "ms", "kl")}
        if all(used[name] <= most for name, most in limits.items().items()):
            within.append((used[limits.aim], replace(inside.recipe, head_bits=outside.bits), same))
    if not within:
        return None
    _, recipe, same = min(within, key=lambda one: one[0])
    return _told(bench, _levelled(recipe, level), same, 0.0, rest)


def solve(found: Sequence[Curve], limits: Limits, **besides: float) -> list[Option]:
    """One option for each curve: the least of `limits.aim` within all limits, of which some is used `besides`.
    ValueError where nothing keeps them."""
    from scipy.optimize import Bounds, LinearConstraint, milp  # noqa: PLC0415 - a second that a start would pay

    options = [(place, option) for place, curve in enumerate(found) for option in curve.options]
    figures = {name: np.array([getattr(o, name) for _, o in options], dtype=float) for name in ("size", "ms", "kl")}
    one_each = np.zeros((len(found), len(options)))
    one_each[[place for place, _ in options], range(len(options))] = 1
    limits = limits.less(**besides)
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
            raise ValueError(_why_not(found, limits, besides))
        taken = result.x > 0.5
        over = {name: figures[name][taken].sum() - most for name, most in limits.items().items()}
        if max(over.values()) <= 0:
            return [option for (_, option), one in zip(options, taken, strict=True) if one]
        for name, by in over.items():  # the solver keeps a limit to a millionth only
            kept[name] -= (by + 1e-7 * kept[name]) * (by > 0)


def _why_not(found: Sequence[Curve], limits: Limits, besides: Mapping[str, float]) -> str:
    least = {
        name: besides.get(name, 0.0) + sum(min(getattr(o, name) for o in curve.options) for curve in found)
        for name in limits.items()
    }
    words = {
        "size": f"{least.get('size', 0) / 1e6:.1f} MB",
        "ms": f"{least.get('ms', 0):.1f} ms a token",
        "kl": f"{least.get('kl', 0):.4f} nats",
    }
    return f"No choice keeps this budget; the least is {', '.join(words[name] for name in least)}."


def _matrices(bench: Workbench, trade: Trade) -> int:
    """Bytes of the curves' matrices as they were."""
    names = {name for curve in trade.curves for name in curve.names}
    element = dtype_of(bench.loaded.model).itemsize
    found = bench.variants.predictor(Recipe(depth=trade.depth)).targets
    return sum(t.shape[0] * t.shape[1] * element for t in found if t.name in names)


def _told(bench: Workbench, recipe: Recipe, options: Sequence[Option], kl: float, ms: float) -> Choice:
    """What is expected of it: its options, and what comes besides."""
    nats, times = (sum(getattr(option, name) for option in options) for name in ("kl", "ms"))
    return Choice(
        recipe=recipe,
        size=bench.preview(recipe).file_bytes,
        kl=Reading(value=kl + nats, unit="nats", how="estimated"),
        ms=Reading(value=ms + times, unit="ms", how="estimated"),
    )


def _recipe(trade: Trade, options: Sequence[Option], level: str) -> Recipe:
    """The most frequent way for all, and an exception for every other group."""
    pairs = list(zip(trade.curves, options, strict=True))
    usual = Counter(o.way for curve, o in pairs if not curve.outside).most_common(1)[0][0]
    head = next((o.way.bits for curve, o in pairs if curve.outside), usual.bits)
    exceptions = []
    for curve, option in pairs:
        way = replace(usual, bits=head) if curve.outside else usual
        same = replace(option.way, sparsity=way.sparsity, keep=way.keep) if curve.outside else option.way
        if same != way:
            exceptions += [f"{name}={same.besides(way)}" for name in curve.names]
    recipe = replace(usual.recipe, head_bits=head, depth=trade.depth, layers=tuple(exceptions))
    return _levelled(recipe, level)


def _levelled(recipe: Recipe, level: str) -> Recipe:
    """By the methods of a level; what a recipe does not need goes back to its default by itself."""
    if level == "best":
        return replace(recipe, prune=BEST["prune"], quant=BEST["quant"])
    return replace(recipe, quant="rtn" if recipe.pruned else "search")


def _at(curve: Curve, way: Way) -> Option:
    return next(option for option in curve.options if option.way == way)
