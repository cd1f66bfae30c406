"""How a Stored is multiplied on this device. Storage is not execution: what has a kernel here runs packed, everything
else is decoded once into a plain matrix (same numbers, no saving in time), and each choice has a name for the page."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.layers import blockwise
from explorer.layers.dense import linear
from explorer.layers.storage import BitsAndBytes, Dense, Quantized, Spec, Stored, encode

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
        return linear(x, self.weight)


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
        self.register_buffer("packed", self.pack(codes))
        self.register_buffer("scale_and_shift", both)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1]).contiguous()  # the last tokens of several texts lie apart
        if self.pad:
            flat = F.pad(flat, (0, self.pad))
        y = self.multiply(flat)
        if y.shape[1] != self.rows:
            y = y[:, : self.rows]
        return y.view(*x.shape[:-1], self.rows)

    @staticmethod
    def pack(codes: Tensor) -> Tensor:
        """(rows, columns) uint8 codes below 16 in the kernel's own order."""
        packed: Tensor = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), 1)
        return packed

    def multiply(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.packed, self.group, self.scale_and_shift)
        return y


class TinyGemm(Int4Pack):
    """torch's weight-only int4 product on CUDA: the same arithmetic, another order of codes.

    `choose` takes it only after a small product on this device has agreed with the decoded weights.
    """

    name = "tinygemm"

    @staticmethod
    def pack(codes: Tensor) -> Tensor:
        tiles = next(count for count in (8, 4, 2) if codes.shape[1] % (16 * count) == 0)
        pairs = (codes[:, ::2] << 4) | codes[:, 1::2]
        packed: Tensor = torch.ops.aten._convert_weight_to_int4pack(pairs.contiguous(), tiles)
        return packed

    def multiply(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.aten._weight_int4pack_mm(x, self.packed, self.group, self.scale_and_shift)
        return y


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


class BnbKernel(Kernel):
    """bitsandbytes' own product on its own data, without quantizing anew.

    nf4, fp4: decoded inside the product; on x86 the library reorders the codes for it, takes rows in 32s and rounds
    each absmax to bfloat16. int8: LLM.int8() (arXiv 2208.07339, §3): inputs are rounded to int8 token by token, but
    for the columns where one is beyond 6, which are multiplied as they are.
    """

    packed: Tensor
    absmax: Tensor

    def __init__(self, stored: BitsAndBytes) -> None:
        super().__init__()
        self.format, self.rows = stored.spec.format, stored.shape[0]
        self.name = f"bnb {self.format}"
        packed, absmax = stored.packed, stored.scales()
        if self.format == "int8":
            self.state = blockwise.library().MatmulLtState(CB=packed, SCB=absmax.view(-1))
            self.state.has_fp16_weights = self.state.is_training = False
        elif packed.device.type == "cpu":
            packed, absmax = (F.pad(t, (0, 0, 0, -self.rows % 32)) for t in (packed, absmax))
            state = blockwise.quant_state(packed, absmax, self.format, stored.dtype)
            packed, self.state = blockwise.library().functional._convert_weight_packed_for_cpu(packed, state)
            absmax = self.state.absmax
        else:
            self.state = blockwise.quant_state(packed, absmax, self.format, stored.dtype)
        self.columns = packed.shape[1] * (1 if self.format == "int8" else 2)
        self.register_buffer("packed", packed)
        self.register_buffer("absmax", absmax)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        if self.columns != flat.shape[1]:
            flat = F.pad(flat, (0, self.columns - flat.shape[1]))
        flat = flat.contiguous()
        if self.format == "int8":
            y: Tensor = blockwise.library().matmul(flat, self.packed, state=self.state, threshold=6.0)
        else:
            y = blockwise.library().matmul_4bit(flat, self.packed, self.state)
        if y.shape[1] != self.rows:
            y = y[:, : self.rows]
        return y.view(*x.shape[:-1], self.rows)


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
    if isinstance(stored, BitsAndBytes):
        return Decoded if _obstacle(stored) else BnbKernel
    if not isinstance(stored, Quantized) or stored.dtype != torch.bfloat16:
        return Decoded
    device, four = stored.packed.device.type, stored.bits <= 4 and stored.group in INT4_GROUPS
    if device == "cuda" and four and _proven(TinyGemm, Spec(bits=stored.bits, group=stored.group), device):
        return TinyGemm
    if device == "cpu" and four and _has("_weight_int4pack_mm_for_cpu"):
        return Int4Pack
    if device == "cpu" and stored.bits == 8 and stored.groups == 1 and _has("_weight_int8pack_mm"):
        return Int8Pack
    return Decoded


def build(stored: Stored) -> Kernel:
    """The kernel for a Stored, ready to run."""
    return choose(stored)(stored)


def joint(parts: Sequence[Stored]) -> bool:
    """Whether one product can carry all of these (see `storage.stack`): same kernel, width, format and grouping."""
    alike = {_likeness(part) for part in parts}
    return len(alike) == 1 and None not in alike


def _likeness(stored: Stored) -> tuple[object, ...] | None:
    kind, columns = choose(stored), stored.shape[1]
    if kind is not Decoded and isinstance(stored, BitsAndBytes):
        return kind, columns, stored.dtype, stored.spec.format
    if kind is not Decoded and isinstance(stored, Quantized):
        return kind, columns, stored.dtype, stored.bits, stored.group
    return None


def why_decoded(stored: Stored) -> str:
    """One sentence for the page: why this Stored has no kernel of its own here, or '' where it has or needs none."""
    if isinstance(stored, Dense) or choose(stored) is not Decoded:
        return ""
    if isinstance(stored, BitsAndBytes):
        return f"{_obstacle(stored)}: decoded once, this saves bytes on disk, not time."
    if not isinstance(stored, Quantized):
        return "Zeros are multiplied like any other number on this machine: this saves bytes on disk, not time."
    return f"No kernel here for {stored.bits} bits in this grouping: decoded once, this saves bytes on disk, not time."


def _obstacle(stored: BitsAndBytes) -> str:
    """What keeps bitsandbytes from multiplying this, or ''."""
    device, format = stored.packed.device.type, stored.spec.format
    if device == "cpu" and stored.dtype != torch.bfloat16:
        return f"bitsandbytes multiplies {format} in bfloat16 on a CPU, and this model is not in bfloat16"
    if device == "cpu" and not _fast(format):
        return f"This processor lacks the instructions that bitsandbytes multiplies {format} with"
    if not _proven(BnbKernel, Spec(format=format), device, stored.dtype):
        return f"bitsandbytes gives no right product of {format} on this machine"
    return ""


@cache
def _fast(format: str) -> bool:
    """Whether this CPU has the fused product; without it the library decodes the matrix in every call."""
    if format == "int8":
        return torch.backends.cpu.get_cpu_capability() == "AVX512"
    return bool(blockwise.library().functional.has_avx512bf16())


@cache
def _proven(kind: type[Kernel], spec: Spec, device: str, dtype: torch.dtype = torch.bfloat16) -> bool:
    """Whether a kernel gives here what the decoded weights give: two small products, run once for kind and device."""
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(n, 480, generator=generator).to(device, dtype) for n in (40, 20))
    try:
        stored = encode(weight, spec)
        kernel, exact = kind(stored), F.linear(x.float(), stored.dense().float())
        errors = [(kernel(x[:n]).float() - exact[:n]).norm() / exact[:n].norm() for n in (1, 20)]
    except Exception:  # whatever it is that a missing or foreign build raises: the weights can be decoded
        return False
    return all(bool(error < 0.05) for error in errors)


def _has(operator: str) -> bool:
    return hasattr(torch.ops.aten, operator)
