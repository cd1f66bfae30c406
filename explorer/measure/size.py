"""What a model costs to keep: counted from its tensors, or predicted from shapes alone. A test says that both agree."""

from collections.abc import Iterable

from torch import Tensor, nn

from explorer.layers import storage
from explorer.layers.linear import CompressedLinear
from explorer.layers.storage import Sparse, Spec, Stored, tensors_of
from explorer.layers.targets import Target
from explorer.model.plan import NOTHING, Allotment, plans
from explorer.recipe import Recipe
from explorer.records import Footprint, How, Reading


def stored_bytes(model: nn.Module) -> int:
    """Bytes of all tensors in the file."""
    return sum(map(_bytes, tensors_of(model).values()))


def resident_bytes(model: nn.Module) -> int:
    """Bytes that the model's weights and buffers hold in memory now, shared memory once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in _all(model)}
    return sum(storages.values())


def kept_parameters(model: nn.Module) -> int:
    """Weights that are kept: pruned ones left out, factors counted as they are, codes one each, ties once."""
    counted: dict[int, int] = {id(p): p.numel() for p in model.parameters()}
    inside = [m for m in model.modules() if isinstance(m, Sparse)]
    kept_inside = {id(m.kept) for m in inside}
    for module in model.modules():
        if isinstance(module, Stored) and id(module) not in kept_inside:
            counted[id(module)] = module.values()
        if isinstance(module, CompressedLinear) and module.bias is not None:
            counted[id(module.bias)] = module.bias.numel()
    return sum(counted.values())


class Predictor:
    """Arithmetic on shapes: the exact file bytes of any recipe of one model, in about a millisecond.

    `original` is the footprint to compare with, where `base` is what was left of a larger model.
    """

    def __init__(self, base: nn.Module, found: list[Target], original: "Predictor | None" = None) -> None:
        self.element_bytes = next(base.parameters()).dtype.itemsize
        self.targets = found
        self.bytes, self.parameters = stored_bytes(base), kept_parameters(base)
        self.original: int = original.original if original else self.bytes

    def predict(self, recipe: Recipe, allotted: Allotment = NOTHING) -> Footprint:
        """File bytes, parameters and ratio of a recipe, without touching a weight."""
        total, parameters = self.bytes, self.parameters
        parts: dict[str, int] = {}
        planned = plans(self.targets, recipe, allotted)
        for target in self.targets:
            plan, (rows, columns) = planned[target.name], target.shape
            if target.tied_to:
                continue  # it costs nothing of its own
            before = after = rows * columns * self.element_bytes
            if plan.factors:
                after = sum(storage.stored_bytes(shape, spec, self.element_bytes) for shape, spec in plan.all())
                after += columns * self.element_bytes if plan.scaled else 0
                total += after - before
                parameters += sum(kept_values(shape, spec) for shape, spec in plan.all()) - rows * columns
            parts[target.kind] = parts.get(target.kind, 0) + after
        parts["rest"] = total - sum(parts.values())
        return footprint(total, parameters, self.original, total, "calculated", parts)


def kept_values(shape: tuple[int, int], spec: Spec) -> int:
    """Weights that a matrix stored so keeps."""
    if spec.kept is None:
        return shape[0] * shape[1]
    return spec.kept if spec.flat else shape[0] * spec.kept


def footprint(
    file_bytes: int,
    parameters: int,
    original_bytes: int,
    predicted: int,
    how: How,
    parts: dict[str, int],
    resident: int | None = None,
    notes: Iterable[str] = (),
) -> Footprint:
    """Readings from counts; `how` says whether the bytes were counted ("measured") or predicted ("calculated")."""
    return Footprint(
        file_bytes=Reading(value=file_bytes, unit="bytes", how=how),
        parameters=Reading(value=parameters, unit="weights", how=how),
        compression_ratio=Reading(value=original_bytes / file_bytes, unit="×", how=how),
        predicted_bytes=Reading(value=predicted, unit="bytes", how="calculated"),
        resident_bytes=None if resident is None else Reading(value=resident, unit="bytes", how="measured"),
        parts=parts,
        notes=tuple(notes),
    )


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _all(model: nn.Module) -> Iterable[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
