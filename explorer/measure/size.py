"""What a model costs to keep: counted from its tensors, or predicted from shapes alone. A test says that both agree."""

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from explorer.layers import storage
from explorer.layers.experts import Stack
from explorer.layers.linear import CompressedEmbedding, CompressedLinear
from explorer.layers.storage import BitsAndBytes, Dense, Quantized, Sparse, Spec, Stored, tensors_of
from explorer.layers.targets import Target, active_experts, weight_of
from explorer.model.plan import NOTHING, Allotment, plans
from explorer.values.footprint import Breakdown, Footprint
from explorer.values.reading import How, Reading
from explorer.values.recipe import Recipe

ROLES = {
    **dict.fromkeys(("scale", "zero", "absmax", "book", "nested", "offset", "input_scale"), "scales"),
    "bitmap": "masks",
}
ZIP_LEVEL = 6  # zlib's own default, and that of zip


def stored_bytes(model: nn.Module) -> int:
    """Bytes of all tensors in the file."""
    return sum(map(_bytes, tensors_of(model).values()))


def resident_bytes(model: nn.Module) -> int:
    """Bytes that the model's weights and buffers hold in memory now, shared memory once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in _all(model)}
    return sum(storages.values())


def read_bytes(model: nn.Module) -> int:
    """Bytes of weights that one further token reads: all but the embedding, of which it looks up a row, unless a tied
    head multiplies by the same tensor."""
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding | CompressedEmbedding)]
    inside = {id(part) for table in tables for part in table.modules()}
    stacks = [module for module in model.modules() if isinstance(module, Stack)]
    apart = {id(part) for stack in stacks for part in stack.modules()}
    rest = _held([m for m in model.modules() if id(m) not in inside | apart])
    config: Any = getattr(model, "config", None)
    met = (active_experts(config.get_text_config(), s.experts) / s.experts * _held(s.modules()) for s in stacks)
    return rest + int(sum(met))


def _held(modules: Iterable[nn.Module]) -> int:
    tensors = [t for m in modules for t in [*m.parameters(recurse=False), *m.buffers(recurse=False)]]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


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
        self.targets = found
        self.element_bytes = {t.name: weight_of(base.get_submodule(t.name)).dtype.itemsize for t in found}
        self.bytes, self.parameters = stored_bytes(base), kept_parameters(base)
        self.original: int = original.original if original else self.bytes

    def predict(self, recipe: Recipe, allotted: Allotment = NOTHING) -> Footprint:
        """File bytes, parameters and ratio of a recipe, without touching a weight."""
        total, parameters = self.bytes, self.parameters
        idle_bytes = idle_parameters = 0.0  # of experts that a token does not meet
        parts: dict[str, int] = {}
        planned = plans(self.targets, recipe, allotted)
        for target in self.targets:
            plan, (rows, columns) = planned[target.name], target.shape
            if target.tied_to:
                continue  # it costs nothing of its own
            element = self.element_bytes[target.name]
            before = after = rows * columns * element
            held = rows * columns
            if plan.factors:
                after = sum(storage.stored_bytes(shape, spec, element) for shape, spec in plan.all())
                after += columns * element if plan.scaled else 0
                total += after - before
                held = sum(kept_values(shape, spec) for shape, spec in plan.all())
                parameters += held - rows * columns
            if target.experts:
                idle_bytes += after * (1 - target.active / target.experts)
                idle_parameters += held * (1 - target.active / target.experts)
            parts[target.kind] = parts.get(target.kind, 0) + after
        parts["rest"] = total - sum(parts.values())
        found = footprint(total, parameters, self.original, total, "calculated", parts)
        if not idle_bytes:
            return found
        return replace(
            found,
            active_parameters=Reading(value=parameters - idle_parameters, unit="weights", how="calculated"),
            active_bytes=Reading(value=total - idle_bytes, unit="bytes", how="calculated"),
        )


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


def breakdown(model: nn.Module, found: Sequence[Target]) -> Breakdown:
    """Where the file bytes of an unsettled model are, and what an ideal coder of masks and codes would need.

    `found`: the targets of the model that it was made from. Takes a pass over all weights.
    """
    return Breakdown(
        file_bytes=_counted(stored_bytes(model)),
        parts={name: _counted(count) for name, count in parts(model, found).items()},
        entropy_bytes=Reading(value=entropy_bytes(model), unit="bytes", how="calculated"),
        notes=tuple(why_not(model, found)),
    )


def parts(model: nn.Module, found: Sequence[Target]) -> dict[str, int]:
    """File bytes by part: the matrices by kind, their scales and masks, norms, and the rest; a tied head has none."""
    kinds = {target.name: target.kind for target in found}
    norms = {name for name, module in model.named_modules() if "norm" in type(module).__name__.lower()}
    counts = dict.fromkeys(("embedding", "attention", "mlp", "head", "scales", "masks", "norms", "rest"), 0)
    for name, tensor in tensors_of(model).items():
        owner, _, last = name.rpartition(".")
        inside = [".".join(owner.split(".")[:depth]) for depth in range(owner.count(".") + 1, 0, -1)]
        kind = next((kinds[each] for each in inside if each in kinds), None)
        part = ROLES.get(last) if kind else None
        counts[part or kind or ("norms" if norms.intersection(inside) else "rest")] += _bytes(tensor)
    return {name: count for name, count in counts.items() if count}


def entropy_bytes(model: nn.Module) -> float:
    """File bytes if every mask and every matrix's codes were coded at their entropy, one symbol like the next; scales,
    zero points and unquantized weights as they are. A pattern such as 2:4 is not made use of."""
    total = float(stored_bytes(model))
    for module in model.modules():
        if isinstance(module, Sparse):
            cells = module.shape[0] * module.shape[1]
            total += _entropy(torch.tensor([module.values(), cells - module.values()])) / 8 - _bytes(module.bitmap)
        elif isinstance(module, Quantized):
            total += _entropy(torch.bincount(module.codes().flatten())) / 8 - _bytes(module.packed)
        elif isinstance(module, BitsAndBytes):
            codes = module.packed.view(torch.uint8).flatten()
            if module.spec.bits == 4:
                codes = torch.cat([codes >> 4, codes & 15])
            total += _entropy(torch.bincount(codes)) / 8 - _bytes(module.packed)
    return total


def zip_bytes(model: nn.Module) -> Reading:
    """What zip makes of the file: every tensor's bytes through zlib by itself; some seconds for 100 MB."""
    raw = (tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data for tensor in tensors_of(model).values())
    return _counted(sum(len(zlib.compress(each, ZIP_LEVEL)) for each in raw))


@torch.no_grad()
def why_not(model: nn.Module, found: Sequence[Target]) -> list[str]:
    """Savings that an unsettled model does not have, each reason with the number of matrices that it holds for."""
    zeros = above = larger = 0
    for target in found:
        module, (rows, columns) = model.get_submodule(target.name), target.shape
        if target.tied_to:
            continue
        if not isinstance(module, CompressedLinear):
            weight = getattr(module, "weight", None)
            zeros += int(isinstance(weight, Tensor) and _mostly_zeros(weight))
            continue
        grown = stored_bytes(module) > rows * columns * module.stored()[0].dtype.itemsize
        branch: list[Stored] = list(module.branches[0])  # type: ignore[call-overload]
        rank = branch[0].shape[1] if len(branch) == 2 else 0
        too_high = rank * (rows + columns) > rows * columns
        above += grown and too_high
        larger += grown and not too_high
        zeros += any(isinstance(part, Dense) and _mostly_zeros(part.weight) for part in branch)
    notes = {
        "zeros are stored like any other number": zeros,
        "rank above break-even grows this layer": above,
        "mask, scales or residual cost more than they save": larger,
    }
    return [f"{reason} ({count} {'matrix' if count == 1 else 'matrices'})" for reason, count in notes.items() if count]


def kv_cache_bytes(config: Any, context: int, dtype_bytes: int = 2, batch: int = 1) -> Reading:
    """Keys and values of `context` tokens in all layers; one with a sliding window keeps no more than the window."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    window = getattr(text, "sliding_window", None) or context
    tokens = sum(min(context, window) if kind == "sliding_attention" else context for kind in kinds)
    heads, width = _heads(text)
    return Reading(value=2 * tokens * heads * width * dtype_bytes * batch, unit="bytes", how="calculated")


def activation_bytes(config: Any, context: int, dtype_bytes: int = 2, batch: int = 1) -> Reading:
    """What a prefill of `context` tokens holds at once beside weights and cache, about: the residual stream and its
    norm, the wider of attention's (q, k, v, mixed) and the MLP's (gate, up, product) rows, and one row of logits.
    Attention is taken to be fused, so that no scores are kept."""
    text = config.get_text_config()
    heads, width = _heads(text)
    inner = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None) or 4 * text.hidden_size
    attention = 2 * text.num_attention_heads * width + 2 * heads * width
    rows = context * (2 * text.hidden_size + max(attention, 3 * inner)) + text.vocab_size
    return Reading(value=rows * dtype_bytes * batch, unit="bytes", how="estimated")


def beside(config: Any, longest: int, dtype_bytes: int) -> dict[int, tuple[Reading, Reading]]:
    """(KV cache, activations) of one text, by its tokens: a short one, a long one, the longest the model takes."""
    lengths = sorted({min(tokens, longest) for tokens in (128, 1024, longest)})
    return {n: (kv_cache_bytes(config, n, dtype_bytes), activation_bytes(config, n, dtype_bytes)) for n in lengths}


def _heads(text: Any) -> tuple[int, int]:
    """(key-value heads, head size)."""
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return getattr(text, "num_key_value_heads", None) or text.num_attention_heads, width


def _mostly_zeros(weight: Tensor) -> bool:
    return bool((weight == 0).float().mean() > 0.05)


def _entropy(counts: Tensor) -> float:
    """Bits to code all symbols of these counts."""
    total = int(counts.sum())
    return sum((n * math.log2(total / n) for n in map(int, counts.tolist()) if n), 0.0)


def _counted(count: int) -> Reading:
    return Reading(value=count, unit="bytes", how="measured")


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _all(model: nn.Module) -> Iterable[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
