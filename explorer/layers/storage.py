"""How a matrix is kept: Dense | Quantized | Sparse | BitsAndBytes. A Stored's buffers are all that it costs; `size.py`
counts them, and `stored_bytes` foretells them from the shape alone.

Knows nothing of models, recipes or speed; how a Stored is multiplied is the business of `kernels.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.layers import blockwise
from explorer.methods import bits as bitpack
from explorer.methods import quantize
from explorer.native import encoding


@dataclass(frozen=True, kw_only=True)
class Spec:
    """How to store one matrix. `group` 0 is a whole row.

    kept: weights that are not zero, of each row, or with `flat` of the whole matrix; None is dense.
    format: `grid` (see `methods.quantize`), or what bitsandbytes stores (see `blockwise`): `nf4`, `fp4`, `int8`. These
    set `bits` themselves and do not use `group`. double: quantize the absmaxes of nf4 and fp4 too.
    ValueError where the parts do not go together.
    """

    bits: int = 16
    group: int = 64
    kept: int | None = None
    flat: bool = False
    format: str = "grid"
    double: bool = False

    def __post_init__(self) -> None:
        if self.double and self.format not in ("nf4", "fp4"):
            raise ValueError(f"double needs the format nf4 or fp4, not {self.format!r}.")
        if self.format == "grid":
            return
        if self.format not in blockwise.BITS:
            raise ValueError(f"format must be one of grid, {', '.join(blockwise.BITS)}, not {self.format!r}.")
        if self.kept is not None:
            raise ValueError(f"{self.format} stores every weight: it cannot be combined with sparsity.")
        object.__setattr__(self, "bits", blockwise.BITS[self.format])

    def inner(self, rows: int) -> tuple[tuple[int, int], "Spec"]:
        """Shape and spec of the kept values, which lie without gaps."""
        assert self.kept is not None
        return (1 if self.flat else rows, self.kept), replace(self, kept=None, flat=False)


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
        self.fresh: tuple[Tensor, Tensor] | None = None  # codes and zeros, as encode had them; not a part of the file

    def codes(self) -> Tensor:
        """(rows, columns) uint8."""
        return bitpack.unpack(self.packed, self.bits, self.shape[1])

    def zeros(self) -> Tensor:
        """(rows, groups) uint8."""
        count = self.shape[0] * self.groups
        return bitpack.unpack(self.zero, self.bits, count).view(self.shape[0], self.groups)

    def at_hand(self) -> tuple[Tensor, Tensor]:
        """Codes and zeros, unpacked only where `encode` is long gone."""
        return self.fresh or (self.codes(), self.zeros())

    def dense(self) -> Tensor:
        return encoding.dequantize(self.codes(), self.scale, self.zeros(), self.group, self.dtype)

    def decoded(self) -> Tensor:
        codes, zeros = self.at_hand()
        return encoding.dequantize(codes, self.scale, zeros, self.group, self.dtype)

    def rows(self, index: Tensor) -> Tensor:
        flat = index.reshape(-1)
        codes = bitpack.unpack(self.packed[flat], self.bits, self.shape[1])
        places = flat[:, None] * self.groups + torch.arange(self.groups, device=flat.device)
        zeros = bitpack.take(self.zero, self.bits, self.shape[0] * self.groups, places)
        weights = encoding.dequantize(codes, self.scale[flat], zeros, self.group, self.dtype)
        return weights.view(*index.shape, self.shape[1])

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.bits} bits, groups of {self.group}"


class Sparse(Stored):
    """A bitmap of what is kept (rows, ⌈columns / 8⌉) and the kept values as a Stored of their own: (rows, kept), or
    (1, kept) where rows keep different numbers."""

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
        return encoding.spread(values, bitpack.unpack_mask(self.bitmap, self.shape[1]))

    def values(self) -> int:
        return self.kept.values()


class BitsAndBytes(Stored):
    """What bitsandbytes stores, under the names that `blockwise` gives it."""

    packed: Tensor

    def __init__(self, stored: dict[str, Tensor], *, columns: int, spec: Spec, dtype: torch.dtype) -> None:
        super().__init__((stored["packed"].shape[0], columns), dtype)
        self.spec = spec
        for name, tensor in stored.items():
            self.register_buffer(name, tensor)

    def scales(self, index: Tensor | None = None) -> Tensor:
        """The absmaxes of all rows, or of those in `index` (n,): (n, blocks) float32."""
        return blockwise.scales(dict(self.named_buffers()), index)

    def dense(self) -> Tensor:
        return blockwise.dequantize(self.packed, self.scales(), self.spec.format, self.shape[1], self.dtype)

    def rows(self, index: Tensor) -> Tensor:
        flat = index.reshape(-1)
        packed, scales = self.packed[flat], self.scales(flat)
        weights = blockwise.dequantize(packed, scales, self.spec.format, self.shape[1], self.dtype)
        return weights.view(*index.shape, self.shape[1])

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.spec.format}{', double' * self.spec.double}"


def encode(
    weight: Tensor,
    spec: Spec,
    mask: Tensor | None = None,
    grid: tuple[Tensor, Tensor] | None = None,
    codes: Tensor | None = None,
) -> Stored:
    """Store a (rows, columns) weight as `spec` says.

    `mask` is True for the spec's `kept` weights. `grid` is scale and zero (see `quantize`) of the kept values as they
    lie, the range of each group by default; `codes` those values' codes on it, the nearest by default.
    """
    if spec.kept is not None:
        assert mask is not None
        shape, inner = spec.inner(weight.shape[0])
        kept = encoding.select(weight, mask, shape)
        sparse = Sparse(bitpack.pack_mask(mask), encode(kept, inner, None, grid, codes), columns=weight.shape[1])
        sparse.fresh = encoding.masked(weight, mask) if spec.bits >= 16 else None
        return sparse
    if spec.format != "grid":
        stored = blockwise.quantize(weight, spec.format, spec.double)
        return BitsAndBytes(stored, columns=weight.shape[1], spec=spec, dtype=weight.dtype)
    if spec.bits >= 16:
        return Dense(weight)
    scale, zero = grid or encoding.grid(weight, spec.bits, spec.group)
    if codes is None:
        codes = encoding.round_on(weight, scale, zero, spec.bits, spec.group)
    packed = encoding.pack(codes, spec.bits)
    zeros = encoding.pack(zero.view(1, -1), spec.bits)
    quantized = Quantized(packed, scale, zeros, columns=weight.shape[1], spec=spec, dtype=weight.dtype)
    quantized.fresh = codes, zero
    return quantized


def stack(parts: Sequence[Stored]) -> Stored:
    """Matrices of equal width, format and grouping, one below the other, as one: for running, not for keeping."""
    if len(parts) == 1:
        return parts[0]
    quantized = [part for part in parts if isinstance(part, Quantized)]
    if len(quantized) < len(parts):
        return _stack_blocks([part for part in parts if isinstance(part, BitsAndBytes)])
    codes, zeros = (torch.cat(each) for each in zip(*(part.at_hand() for part in quantized), strict=True))
    packed, scale = torch.cat([part.packed for part in quantized]), torch.cat([part.scale for part in quantized])
    return _like(quantized[0], packed, scale, codes, zeros)


def with_rows(part: Quantized, rows: int) -> Quantized:
    """The matrix with rows of zeros below, so that there are `rows`: for running, not for keeping."""
    more = (0, 0, 0, rows - part.shape[0])
    return _like(part, *(F.pad(t, more) for t in (part.packed, part.scale, *part.at_hand())))


def _like(part: Quantized, packed: Tensor, scale: Tensor, codes: Tensor, zeros: Tensor) -> Quantized:
    """Other rows in the columns, format and grouping of a matrix."""
    made = Quantized(
        packed,
        scale,
        encoding.pack(zeros.view(1, -1), part.bits),
        columns=part.shape[1],
        spec=Spec(bits=part.bits, group=part.group),
        dtype=part.dtype,
    )
    made.fresh = codes, zeros
    return made


def _stack_blocks(parts: Sequence[BitsAndBytes]) -> BitsAndBytes:
    stored = {"packed": torch.cat([part.packed for part in parts]), "absmax": torch.cat([p.scales() for p in parts])}
    first = parts[0]
    return BitsAndBytes(stored, columns=first.shape[1], spec=Spec(format=first.spec.format), dtype=first.dtype)


def empty(shape: tuple[int, int], spec: Spec, dtype: torch.dtype) -> Stored:
    """A Stored of the right buffers without values, to be filled from a file. Never allocates more than it stores."""
    rows, columns = shape
    if spec.kept is not None:
        kept = empty(*spec.inner(rows), dtype)
        return Sparse(torch.empty(rows, -(-columns // 8), dtype=torch.uint8), kept, columns=columns)
    if spec.format != "grid":
        shapes = blockwise.shapes(rows, columns, spec.format, spec.double)
        stored = {name: torch.empty(size, dtype=kind) for name, (size, kind) in shapes.items()}
        return BitsAndBytes(stored, columns=columns, spec=spec, dtype=dtype)
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


def stored_bytes(shape: tuple[int, int], spec: Spec, element_bytes: int) -> int:
    """Exact bytes of a (rows, columns) matrix stored so, by arithmetic; an unquantized weight has `element_bytes`."""
    rows, columns = shape
    if spec.kept is not None:
        return rows * -(-columns // 8) + stored_bytes(*spec.inner(rows), element_bytes)
    if spec.format != "grid":
        shapes = blockwise.shapes(rows, columns, spec.format, spec.double)
        return sum(math.prod(size) * kind.itemsize for size, kind in shapes.values())
    if spec.bits >= 16:
        return rows * columns * element_bytes
    groups = rows * quantize.groups_of(columns, spec.group)[0]
    zeros = bitpack.packed_width(groups, spec.bits)
    return rows * bitpack.packed_width(columns, spec.bits) + zeros + groups * torch.float16.itemsize


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """What a file of this model holds: every parameter and persistent buffer, shared memory once."""
    seen, kept = set(), {}
    for name, tensor in model.state_dict(keep_vars=True).items():  # the very tensors: on meta they have no address
        key = (tensor.data_ptr(), tensor.shape) if tensor.device.type != "meta" else id(tensor)
        if key not in seen:
            seen.add(key)
            kept[name] = tensor.detach()
    return kept
