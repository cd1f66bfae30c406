"""How a Stored is multiplied on this device. Storage is not execution: what has a kernel here runs packed, everything
else is decoded once into a plain matrix (same numbers, no saving in time), and each choice has a name for the page."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.layers.storage import Dense, Quantized, Stored

INT4_GROUPS = (32, 64, 128, 256)


class Kernel(nn.Module):
    """Multiplies by a (rows, columns) matrix: x (…, columns) → (…, rows). Its buffers are what stays in memory."""

    name: str

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Decoded(Kernel):
    """The plain matrix product, on weights decoded once."""

    name = "decoded"
    weight: Tensor

    def __init__(self, stored: Stored) -> None:
        super().__init__()
        self.register_buffer("weight", stored.decoded())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class Int4Pack(Kernel):
    """torch's weight-only int4 product for codes of up to 4 bits in groups (x86; bfloat16 activations only).

    The kernel computes w = (code − 8) · scale + shift in bfloat16. Up to 3 bits, code − zero + 8 fits in 4 bits and no
    shift is needed; at 4 bits shift = scale · (8 − zero). Rows are padded to a multiple of 16 and columns to whole
    groups, with weights that are exactly zero.
    """

    name = "int4pack"
    packed: Tensor
    scale_and_shift: Tensor

    def __init__(self, stored: Quantized) -> None:
        super().__init__()
        self.rows, columns = stored.shape
        self.group = stored.group
        self.pad = stored.groups * stored.group - columns
        codes = stored.codes() if stored.fresh is None else stored.fresh
        scale, zeros = stored.scale.float(), stored.zeros()
        if self.pad:
            codes = torch.cat([codes, zeros[:, -1:].expand(-1, self.pad)], dim=1)
        shift = scale * (8 - zeros.float())
        if stored.bits <= 3:
            codes = (codes.view(self.rows, stored.groups, -1) + 8 - zeros[..., None]).view(self.rows, -1)
            shift = torch.zeros_like(scale)
        more_rows = -self.rows % 16
        codes, scale, shift = (F.pad(t, (0, 0, 0, more_rows)) for t in (codes, scale, shift))
        both = torch.stack([scale.T, shift.T], dim=-1).to(torch.bfloat16).contiguous()  # (groups, rows, 2)
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), 1)
        self.register_buffer("packed", packed)
        self.register_buffer("scale_and_shift", both)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        if self.pad:
            flat = F.pad(flat, (0, self.pad))
        y: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(flat, self.packed, self.group, self.scale_and_shift)
        if y.shape[1] != self.rows:
            y = y[:, : self.rows]
        return y.view(*x.shape[:-1], self.rows)


class Int8Pack(Kernel):
    """torch's weight-only int8 product for 8-bit codes with one scale per row (bfloat16 activations only).

    With x = mean + rest, x · w = scale · rest · (code − 128) + scale · (128 − zero) · Σ rest + mean · Σ w. Only the
    first product is the kernel's, which rounds to bfloat16: it must not carry what all inputs or weights share.
    """

    name = "int8pack"
    weight: Tensor
    scale: Tensor
    shared: Tensor

    def __init__(self, stored: Quantized) -> None:
        super().__init__()
        codes = stored.codes() if stored.fresh is None else stored.fresh
        scale, zero = stored.scale[:, 0].float(), stored.zeros()[:, 0].float()
        self.pad = -stored.shape[1] % 16  # the kernel reads whole vectors of 16 columns
        self.register_buffer("weight", F.pad((codes ^ 128).view(torch.int8), (0, self.pad)))
        self.register_buffer("scale", scale.to(torch.bfloat16))
        row_sums = scale * (codes.sum(dim=1, dtype=torch.float32) - stored.shape[1] * zero)
        self.register_buffer("shared", torch.stack([scale * (128 - zero), row_sums]))  # (2, rows)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        mean = flat.mean(dim=1, keepdim=True, dtype=torch.float32)
        rest = (flat - mean).to(flat.dtype)
        factors = torch.cat([rest.sum(dim=1, keepdim=True, dtype=torch.float32), mean], dim=1)  # (tokens, 2)
        if self.pad:
            rest = F.pad(rest, (0, self.pad))
        y = torch._weight_int8pack_mm(rest, self.weight, self.scale)
        return torch.addmm(y.float(), factors, self.shared).to(x.dtype).view(*x.shape[:-1], -1)


class Shared(nn.Module):
    """One product for several layers that get the same input: the first to ask computes it, all get their rows."""

    def __init__(self, kernel: Kernel, rows: list[int]) -> None:
        super().__init__()
        self.kernel, self.rows = kernel, rows
        self._last: tuple[Tensor, tuple[Tensor, ...]] | None = None

    def part(self, x: Tensor, place: int) -> Tensor:
        last = self._last  # read once: another thread may replace it
        if last is None or last[0] is not x:
            last = (x, self.kernel(x).split(self.rows, dim=-1))
        self._last = None if place == len(self.rows) - 1 else last
        return last[1][place]


class Share(Kernel):
    """One layer's rows of a `Shared` product."""

    def __init__(self, shared: Shared, place: int) -> None:
        super().__init__()
        self.shared, self.place, self.name = shared, place, shared.kernel.name

    def forward(self, x: Tensor) -> Tensor:
        return self.shared.part(x, self.place)


def choose(stored: Stored) -> type[Kernel]:
    """The kernel that carries this Stored on its device; `Decoded` where none does."""
    if not isinstance(stored, Quantized) or stored.dtype != torch.bfloat16 or stored.packed.device.type != "cpu":
        return Decoded
    if stored.bits <= 4 and stored.group in INT4_GROUPS and _has("_weight_int4pack_mm_for_cpu"):
        return Int4Pack
    if stored.bits == 8 and stored.groups == 1 and _has("_weight_int8pack_mm"):
        return Int8Pack
    return Decoded


def build(stored: Stored) -> Kernel:
    """The kernel for a Stored, ready to run."""
    kind = choose(stored)
    return kind(stored) if kind is Decoded or isinstance(stored, Quantized) else Decoded(stored)


def why_decoded(stored: Stored) -> str:
    """One sentence for the page: why this Stored has no kernel of its own here, or '' where it has or needs none."""
    if isinstance(stored, Dense) or choose(stored) is not Decoded:
        return ""
    if not isinstance(stored, Quantized):
        return "Zeros are multiplied like any other number on this machine: this saves bytes on disk, not time."
    return f"No kernel here for {stored.bits} bits in this grouping: decoded once, this saves bytes on disk, not time."


def _has(operator: str) -> bool:
    return hasattr(torch.ops.aten, operator)
