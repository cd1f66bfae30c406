"""How a Stored is multiplied on this device. Storage is not execution: what has a kernel here runs packed, everything
else is decoded once into a plain matrix (same numbers, no saving in time), and each choice has a name for the page."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.layers import blockwise
from explorer.layers.dense import linear
from explorer.layers.storage import BitsAndBytes, Quantized, Stored
from explorer.native import products
from explorer.native.product_code import LANES


class Kernel(nn.Module):
    """Multiplies by a (rows, columns) matrix: x (…, columns) → (…, rows). Its buffers are what stays in memory."""

    name: str

    @classmethod
    def named(cls, stored: Stored) -> str:
        """The name that this kind of kernel has for a Stored."""
        return cls.name

    @classmethod
    def takes(cls, stored: Stored) -> int:
        """Columns of x that need no padding any more: at least the Stored's own."""
        return stored.shape[1]

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
        self.pad = self.takes(stored) - columns
        scale, (codes, zeros) = stored.scale.float(), stored.at_hand()
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
        self.columns = columns + self.pad

    @classmethod
    def takes(cls, stored: Stored) -> int:
        assert isinstance(stored, Quantized)
        return stored.groups * stored.group

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1]).contiguous()  # the last tokens of several texts lie apart
        if flat.shape[1] != self.columns:
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

    `choice` takes it only after a small product on this device has agreed with the decoded weights.
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
        codes, zeros = stored.at_hand()
        scale, zero = stored.scale[:, 0].float(), zeros[:, 0].float()
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


class Compiled(Kernel):
    """The product that is compiled for this processor (see `compiled`), for codes of any width on x86.

    Up to 4 bits a code takes half a byte, else a byte. Groups longer than the loop reads at once have their scale and
    zero repeated; rows are padded to eights and columns to whole groups, with weights that are exactly zero.
    """

    @classmethod
    def named(cls, stored: Stored) -> str:
        assert isinstance(stored, Quantized)
        return f"compiled int{products.width(stored.bits)}"

    @classmethod
    def takes(cls, stored: Stored) -> int:
        assert isinstance(stored, Quantized)
        group = read_at_once(stored)
        return -(-stored.shape[1] // group) * group

    def __init__(self, stored: Quantized) -> None:
        super().__init__()
        self.rows, columns = stored.shape
        self.name = self.named(stored)
        group = read_at_once(stored)
        self.pad = self.takes(stored) - columns
        scale, (codes, zeros) = stored.scale, stored.at_hand()
        groups = (columns + self.pad) // group
        scale, zeros = (t.repeat_interleave(-(-groups // stored.groups), dim=1)[:, :groups] for t in (scale, zeros))
        if self.pad:
            codes = torch.cat([codes, zeros[:, -1:].expand(-1, self.pad)], dim=1)
        if self.rows % LANES:
            codes, scale, zeros = (F.pad(t, (0, 0, 0, -self.rows % LANES)) for t in (codes, scale, zeros))
        self.matrix = products.Packed(codes, scale, zeros, stored.bits)
        for name in ("codes", "scale", "zero"):
            self.register_buffer(name, getattr(self.matrix, name))

    def forward(self, x: Tensor) -> Tensor:
        flat = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
        if flat.shape[1] != self.matrix.columns:
            flat = F.pad(flat, (0, self.pad))
        if flat.dtype not in (torch.bfloat16, torch.float32):
            flat = flat.float()
        y = self.matrix.multiply(flat.contiguous())
        if y.dtype != x.dtype:
            y = y.to(x.dtype)
        if y.shape[1] != self.rows:
            y = y[:, : self.rows]
        return y if x.dim() == 2 else y.view(*x.shape[:-1], self.rows)


def read_at_once(stored: Quantized) -> int:
    """Columns that the loop takes in a run, all of one group; 0 where groups are no whole eights."""
    if stored.groups == 1:
        return 64
    return next((size for size in (128, 64, 32, 16, 8) if stored.group % size == 0), 0)


class BnbKernel(Kernel):
    """bitsandbytes' own product on its own data, without quantizing anew.

    nf4, fp4: decoded inside the product; on x86 the library reorders the codes for it, takes rows in 32s and rounds
    each absmax to bfloat16. int8: LLM.int8() (arXiv 2208.07339, §3): inputs are rounded to int8 token by token, but
    for the columns where one is beyond 6, which are multiplied as they are.
    """

    packed: Tensor
    absmax: Tensor

    @classmethod
    def named(cls, stored: Stored) -> str:
        assert isinstance(stored, BitsAndBytes)
        return f"bnb {stored.spec.format}"

    def __init__(self, stored: BitsAndBytes) -> None:
        super().__init__()
        self.format, self.rows = stored.spec.format, stored.shape[0]
        self.name = self.named(stored)
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
