"""How a matrix is kept: Dense | Quantized | Sparse. A Stored's buffers are all that it costs; `size.py` counts them.

Knows nothing of models, recipes or speed; how a Stored is multiplied is the business of `kernels.py`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explorer.methods import bits as bitpack
from explorer.methods import prune, quantize


@dataclass(frozen=True, kw_only=True)
class Spec:
    """How to store one matrix. `group` 0 is a whole row; `sparsity` 0 is dense."""

    bits: int = 16
    group: int = 64
    sparsity: float = 0.0


class Stored(nn.Module):
    """A (rows, columns) matrix; `dtype` is what `dense()` gives back."""

    def __init__(self, shape: tuple[int, int], dtype: torch.dtype) -> None:
        super().__init__()
        self.shape, self.dtype = shape, dtype

    def dense(self) -> Tensor:
        """The weights as they are stored, decoded to (rows, columns)."""
        raise NotImplementedError

    def decoded(self) -> Tensor:
        """The same as `dense()`, taken from what `encode` still had at hand where it can be."""
        return self.dense()

    def rows(self, index: Tensor) -> Tensor:
        """Chosen rows only, decoded: index (…) → (…, columns)."""
        return self.dense()[index]

    def values(self) -> int:
        """Weights that are kept."""
        return self.shape[0] * self.shape[1]

    def extra_repr(self) -> str:
        return f"{self.shape[0]}×{self.shape[1]}"


class Dense(Stored):
    """The plain matrix."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__((weight.shape[0], weight.shape[1]), weight.dtype)
        self.register_buffer("weight", weight)

    def dense(self) -> Tensor:
        return self.weight

    def rows(self, index: Tensor) -> Tensor:
        return self.weight[index]


class Quantized(Stored):
    """Packed codes (rows, bytes), scale (rows, groups) float16, and the groups' zeros packed at the same width."""

    packed: Tensor
    scale: Tensor
    zero: Tensor

    def __init__(
        self, packed: Tensor, scale: Tensor, zero: Tensor, *, columns: int, spec: Spec, dtype: torch.dtype
    ) -> None:
        super().__init__((packed.shape[0], columns), dtype)
        self.bits = spec.bits
        self.groups, self.group = quantize.groups_of(columns, spec.group)
        self.register_buffer("packed", packed)
        self.register_buffer("scale", scale)
        self.register_buffer("zero", zero)
        self.fresh: Tensor | None = None  # the codes, as encode had them; not a part of the file

    def codes(self) -> Tensor:
        """(rows, columns) uint8."""
        return bitpack.unpack(self.packed, self.bits, self.shape[1])

    def zeros(self) -> Tensor:
        """(rows, groups) uint8."""
        count = self.shape[0] * self.groups
        return bitpack.unpack(self.zero, self.bits, count).view(self.shape[0], self.groups)

    def dense(self) -> Tensor:
        return quantize.dequantize(self.codes(), self.scale, self.zeros(), self.group, self.dtype)

    def decoded(self) -> Tensor:
        codes = self.codes() if self.fresh is None else self.fresh
        return quantize.dequantize(codes, self.scale, self.zeros(), self.group, self.dtype)

    def rows(self, index: Tensor) -> Tensor:
        flat = index.reshape(-1)
        codes = bitpack.unpack(self.packed[flat], self.bits, self.shape[1])
        places = flat[:, None] * self.groups + torch.arange(self.groups, device=flat.device)
        zeros = bitpack.take(self.zero, self.bits, self.shape[0] * self.groups, places)
        weights = quantize.dequantize(codes, self.scale[flat], zeros, self.group, self.dtype)
        return weights.view(*index.shape, self.shape[1])

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.bits} bits, groups of {self.group}"


class Sparse(Stored):
    """A bitmap of what is kept (rows, ⌈columns / 8⌉) and the kept values as a Stored of their own, (rows, kept)."""

    bitmap: Tensor

    def __init__(self, bitmap: Tensor, kept: Stored, *, columns: int) -> None:
        super().__init__((bitmap.shape[0], columns), kept.dtype)
        self.register_buffer("bitmap", bitmap)
        self.kept = kept
        self.fresh: Tensor | None = None  # the masked weights, as encode had them; not a part of the file

    def dense(self) -> Tensor:
        return self._scatter(self.kept.dense())

    def decoded(self) -> Tensor:
        return self._scatter(self.kept.decoded()) if self.fresh is None else self.fresh

    def _scatter(self, values: Tensor) -> Tensor:
        mask = bitpack.unpack_mask(self.bitmap, self.shape[1])
        return torch.zeros(self.shape, dtype=values.dtype, device=values.device).masked_scatter_(mask, values)

    def values(self) -> int:
        return self.kept.values()


def encode(weight: Tensor, spec: Spec, row_ranks: Tensor | None = None) -> Stored:
    """Store a (rows, columns) weight as `spec` says; without `row_ranks` (see `prune.ranks`) magnitudes decide."""
    if spec.sparsity:
        if row_ranks is None:
            mask = prune.mask_from_keys(prune.magnitude_keys(weight), spec.sparsity)
        else:
            mask = prune.mask_from_ranks(row_ranks, spec.sparsity)
        kept = weight.masked_select(mask).view(weight.shape[0], -1)
        dense = Spec(bits=spec.bits, group=spec.group)
        sparse = Sparse(bitpack.pack_mask(mask), encode(kept, dense), columns=weight.shape[1])
        sparse.fresh = weight * mask if spec.bits >= 16 else None
        return sparse
    if spec.bits >= 16:
        return Dense(weight)
    codes, scale, zero = quantize.round_to_nearest(weight, spec.bits, spec.group)
    packed = bitpack.pack(codes, spec.bits)
    zeros = bitpack.pack(zero.view(1, -1), spec.bits)
    quantized = Quantized(packed, scale, zeros, columns=weight.shape[1], spec=spec, dtype=weight.dtype)
    quantized.fresh = codes
    return quantized


def stack(parts: list[Quantized]) -> Quantized:
    """Matrices of equal width and grouping, one below the other, as one."""
    first = parts[0]
    zeros = bitpack.pack(torch.cat([part.zeros().view(-1) for part in parts])[None], first.bits)
    stacked = Quantized(
        torch.cat([part.packed for part in parts]),
        torch.cat([part.scale for part in parts]),
        zeros,
        columns=first.shape[1],
        spec=Spec(bits=first.bits, group=first.group),
        dtype=first.dtype,
    )
    stacked.fresh = torch.cat([part.codes() if part.fresh is None else part.fresh for part in parts])
    return stacked


def empty(shape: tuple[int, int], spec: Spec, dtype: torch.dtype) -> Stored:
    """A Stored of the right buffers without values, to be filled from a file. Never allocates more than it stores."""
    rows, columns = shape
    if spec.sparsity:
        kept = empty((rows, prune.kept_columns(columns, spec.sparsity)), Spec(bits=spec.bits, group=spec.group), dtype)
        return Sparse(torch.empty(rows, -(-columns // 8), dtype=torch.uint8), kept, columns=columns)
    if spec.bits >= 16:
        return Dense(torch.empty(shape, dtype=dtype))
    groups, _ = quantize.groups_of(columns, spec.group)
    return Quantized(
        torch.empty(rows, bitpack.packed_width(columns, spec.bits), dtype=torch.uint8),
        torch.empty(rows, groups, dtype=torch.float16),
        torch.empty(1, bitpack.packed_width(rows * groups, spec.bits), dtype=torch.uint8),
        columns=columns,
        spec=spec,
        dtype=dtype,
    )


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """What a file of this model holds: every parameter and persistent buffer, shared memory once."""
    seen, kept = set(), {}
    for name, tensor in model.state_dict().items():
        key = (tensor.data_ptr(), tensor.shape) if tensor.device.type != "meta" else id(tensor)
        if key not in seen:
            seen.add(key)
            kept[name] = tensor
    return kept
