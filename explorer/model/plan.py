"""What a recipe asks of every matrix of a model, as shapes and specs: the one source for what is built, for what is
predicted, and for what an export is read into. No weight is touched."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from explorer.layers import blockwise
from explorer.layers.storage import Spec
from explorer.layers.targets import Target
from explorer.methods import factorize, prune
from explorer.recipe import Recipe, Setting

Factor = tuple[tuple[int, int], Spec]
DENSE = Spec()


@dataclass(frozen=True, kw_only=True)
class Allotment:
    """What a budget for the whole model leaves to single matrices by name: kept weights, and ranks (0 = whole)."""

    kept: Mapping[str, int]
    rank: Mapping[str, int]


NOTHING = Allotment(kept={}, rank={})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one matrix is stored: no factors = left as it is, one, or two thin ones; `residual` mends what was lost."""

    factors: tuple[Factor, ...] = ()
    residual: tuple[Factor, ...] = ()
    scaled: bool = False

    def all(self) -> tuple[Factor, ...]:
        return self.factors + self.residual


def plans(found: Iterable[Target], recipe: Recipe, allotted: Allotment = NOTHING) -> dict[str, Plan]:
    """The plan of every target by name; a tied head shares its embedding's, and who names one means both."""
    targets = list(found)
    places = 1 + max((target.block for target in targets), default=-1)
    heads = {name: target.name for target in targets if target.tied_to for name in (target.name, target.tied_to)}
    return {t.name: _plan(t, recipe, places, allotted, heads.get(t.name, "")) for t in targets}


def _plan(target: Target, recipe: Recipe, places: int, allotted: Allotment, head: str) -> Plan:
    rows, columns = target.shape
    name, kind = (target.tied_to, "embedding") if target.tied_to else (target.name, target.kind)
    setting = recipe.setting(name, kind, target.block, places, head)
    if setting.protected:
        return Plan()
    if target.kind in ("embedding", "head"):
        return Plan(factors=(((rows, columns), _spec((rows, columns), setting, recipe)),) if setting.bits < 16 else ())
    rank = factorize.rank_for(rows, columns, setting.keep) if setting.keep < 1 else 0
    if setting.keep < 1 and target.name in allotted.rank:
        rank = allotted.rank[target.name]
    shapes = [(rows, rank), (rank, columns)] if rank else [(rows, columns)]
    total = allotted.kept.get(target.name) if not rank else None
    factors = tuple((shape, _spec(shape, setting, recipe, total)) for shape in shapes)
    if not rank and factors[0][1] == Spec(group=setting.group):
        return Plan()
    thin = min(recipe.residual_rank, *target.shape)
    residual: tuple[Factor, ...] = (((rows, thin), DENSE), ((thin, columns), DENSE)) if thin else ()
    return Plan(factors=factors, residual=residual, scaled=recipe.quant == "awq" and setting.bits < 16 and not rank)


def _spec(shape: tuple[int, int], setting: Setting, recipe: Recipe, total: int | None = None) -> Spec:
    rows, columns = shape
    if recipe.quant in blockwise.BITS and setting.bits == blockwise.BITS[recipe.quant]:
        return Spec(format=recipe.quant, double=recipe.double)
    spec = Spec(bits=setting.bits, group=setting.group)
    if not setting.sparsity:
        return spec
    pattern = prune.pattern_of(recipe.pattern)
    if pattern:
        return replace(spec, kept=prune.kept_in_pattern(columns, pattern))
    if recipe.scope == "row":
        return replace(spec, kept=prune.kept_columns(columns, setting.sparsity))
    whole = max(1, rows * columns - round(rows * columns * setting.sparsity))
    return replace(spec, kept=whole if total is None else total, flat=True)
