"""What a recipe asks of every matrix of a model, as shapes and specs: the one source for what is built, for what is
predicted, and for what an export is read into. No weight is touched."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from explorer.layers import blockwise
from explorer.layers.storage import Spec
from explorer.layers.targets import Target
from explorer.methods import factorize, prune
from explorer.values.exceptions import Setting
from explorer.values.recipe import Recipe

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
    """The plan of every target by name; who shares a weight shares its plan, and who names a tied head or its
    embedding means both."""
    targets = list(found)
    places = 1 + max((target.block for target in targets), default=-1)
    tied = [target for target in targets if target.tied_to and target.kind == "head"]
    owners = {
        t.tied_to: replace(t, name=t.tied_to, kind="embedding") for t in tied
    }  # where the table is not among them
    owners |= {target.name: target for target in targets}
    heads = {name: target.name for target in tied for name in (target.name, target.tied_to)}
    made: dict[tuple[object, ...], Plan] = {}  # most matrices are asked the same
    usual: dict[str, Setting] = {}
    planned = {}
    for matrix in targets:
        t = owners[matrix.tied_to] if matrix.tied_to else matrix
        name, kind = t.name, t.kind
        setting = usual.get(kind)
        if setting is None:
            setting = recipe.setting(name, kind, t.block, places, heads.get(t.name, ""))
            if not recipe.layers and not recipe.protect:
                usual[kind] = setting
        asked = t.shape, t.kind in ("embedding", "head"), setting, allotted.rank.get(t.name), allotted.kept.get(t.name)
        if asked not in made:
            made[asked] = _plan(recipe, *asked)
        planned[matrix.name] = made[asked]
    return planned


def _plan(
    recipe: Recipe, shape: tuple[int, int], outside: bool, setting: Setting, rank: int | None, kept: int | None
) -> Plan:
    """rank, kept: what a budget for the whole model leaves to it, where there is one."""
    rows, columns = shape
    if setting.protected:
        return Plan()
    if outside:
        return Plan(factors=((shape, _spec(shape, setting, recipe)),) if setting.bits < 16 else ())
    if setting.keep == 1:
        rank = 0
    elif rank is None:
        rank = factorize.rank_for(rows, columns, setting.keep)
    shapes = [(rows, rank), (rank, columns)] if rank else [shape]
    factors = tuple((part, _spec(part, setting, recipe, None if rank else kept)) for part in shapes)
    if not rank and factors[0][1] == Spec(group=setting.group):
        return Plan()
    thin = min(recipe.residual_rank, *shape)
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
