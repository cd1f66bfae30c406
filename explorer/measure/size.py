"""What a model costs to keep: counted from its tensors, or predicted from shapes alone. A test says that both agree."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from explorer.layers.linear import CompressedLinear
from explorer.layers.storage import Sparse, Spec, Stored, tensors_of
from explorer.layers.targets import Target
from explorer.methods import bits as bitpack
from explorer.methods import prune, quantize
from explorer.model.compress import plan
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
    """Arithmetic on shapes: the exact file bytes of any recipe of one model, in well under a millisecond."""

    def __init__(self, base: nn.Module, found: list[Target]) -> None:
        self.dtype = next(base.parameters()).dtype
        self.element_bytes = self.dtype.itemsize
        self.original = stored_bytes(base)
        self.original_parameters = kept_parameters(base)
        # equal matrices are counted together; a tied head costs nothing of its own
        self.groups: dict[tuple[str, tuple[int, int]], int] = {}
        self.example: dict[tuple[str, tuple[int, int]], Target] = {}
        for target in found:
            if not target.tied_to:
                key = (target.kind, target.shape)
                self.groups[key] = self.groups.get(key, 0) + 1
                self.example[key] = target

    def predict(self, recipe: Recipe) -> Footprint:
        """File bytes, parameters and ratio of a recipe, without touching a weight."""
        total, parameters = self.original, self.original_parameters
        parts: dict[str, int] = {}
        for key, count in self.groups.items():
            kind, (rows, columns) = key
            before = rows * columns
            factors = plan(self.example[key], recipe)
            after = sum(self._bytes(shape, spec) for shape, spec in factors)
            kept = sum(r * prune.kept_columns(c, spec.sparsity) for (r, c), spec in factors)
            if factors:
                total += count * (after - before * self.element_bytes)
                parameters += count * (kept - before)
            parts[kind] = parts.get(kind, 0) + count * (after if factors else before * self.element_bytes)
        parts["rest"] = total - sum(parts.values())
        return footprint(total, parameters, self.original, total, "calculated", parts)

    def _bytes(self, shape: tuple[int, int], spec: Spec) -> int:
        rows, columns = shape
        if spec.sparsity:
            kept = prune.kept_columns(columns, spec.sparsity)
            return rows * -(-columns // 8) + self._bytes((rows, kept), Spec(bits=spec.bits, group=spec.group))
        if spec.bits >= 16:
            return rows * columns * self.element_bytes
        groups, _ = quantize.groups_of(columns, spec.group)
        codes = rows * bitpack.packed_width(columns, spec.bits)
        zeros = bitpack.packed_width(rows * groups, spec.bits)
        return codes + zeros + rows * groups * torch.float16.itemsize


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
