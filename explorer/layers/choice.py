"""Which kernel runs a Stored on this machine, whether several run as one, and why some have none."""

from collections.abc import Mapping, Sequence
from functools import cache
from math import inf

import torch
from torch.nn import functional as F

from explorer.layers import blockwise
from explorer.layers.kernels import BnbKernel, Compiled, Decoded, Int4Pack, Int8Pack, Kernel, TinyGemm, read_at_once
from explorer.layers.storage import BitsAndBytes, Dense, Quantized, Spec, Stored, encode, with_rows
from explorer.native import llvm

INT4_GROUPS = (32, 64, 128, 256)
_measured: dict[str, float] = {}


def prefer(times: Mapping[str, float]) -> None:
    """Kernels' times by name on this machine (see `measure.machine`): the quickest is chosen where several would do."""
    _measured.clear()
    _measured.update(times)


def choose(stored: Stored) -> type[Kernel]:
    """The kernel that runs this Stored: of all that can, the quickest as measured, else the first."""
    return min(candidates(stored), key=lambda kind: _measured.get(kind.named(stored), inf))


def candidates(stored: Stored) -> list[type[Kernel]]:
    """The kernels that carry this Stored on its device, most likely quickest first; `Decoded` where none does."""
    if isinstance(stored, BitsAndBytes):
        return [Decoded if _obstacle(stored) else BnbKernel]
    if not isinstance(stored, Quantized):
        return [Decoded]
    device, half = stored.packed.device.type, stored.dtype == torch.bfloat16
    four, eight = stored.bits <= 4 and stored.group in INT4_GROUPS, stored.bits == 8 and stored.groups == 1
    if device == "cuda" and half and four and _proven(TinyGemm, Spec(bits=stored.bits, group=stored.group), device):
        return [TinyGemm]
    if device != "cpu":
        return [Decoded]
    found: list[type[Kernel]] = []
    if half and four and _has("_weight_int4pack_mm_for_cpu"):
        found.append(Int4Pack)
    if half and eight and _has("_weight_int8pack_mm"):
        found.append(Int8Pack)
    if llvm.available() and read_at_once(stored):
        found.append(Compiled)
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        found.reverse()  # torch's products are then bound by arithmetic
    return found or [Decoded]


def build(stored: Stored) -> Kernel:
    """The kernel for a Stored, ready to run."""
    return choose(stored)(stored)  # type: ignore[arg-type]


def fitted(first: Stored, second: Stored) -> Stored:
    """The factor that is multiplied first, with rows of zeros so that nothing is padded between it and the second."""
    rows = choose(second).takes(second)
    if rows == first.shape[0] or not isinstance(first, Quantized) or choose(first) is Decoded:
        return first
    return with_rows(first, rows)


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
