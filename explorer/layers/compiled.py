"""Products with packed codes, compiled at run time for this processor by LLVM. torch's own int4 product is bound by
arithmetic on processors without AVX-512; here codes meet inputs as integers of 16 bits, sixteen in an instruction.

A row of inputs is rounded to int16 within each group (32,767 steps up to its largest: finer than bfloat16), so that
y = Σ over groups of scale · step · (codes · rounded − zero · Σ rounded). Sums of integers are exact. Codes lie as the
loop reads them: a lane of 32 bits holds some columns of one row, eight rows stand side by side in a vector.
"""

import ctypes
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from explorer.layers.program import LANES, program

NEEDED = ("avx2", "fma", "f16c")
GRAIN = 2**15  # weights from which a second thread pays
LIBRARIES = ("libtorch_cpu.so", "torch_cpu.dll")


@cache
def available() -> bool:
    """Whether this processor has the instructions, and what compiles for it is there."""
    return platform.machine().lower() in ("x86_64", "amd64") and _target() is not None and parallel_for() is not None


def width(bits: int) -> int:
    """Bits that a code of `bits` takes in memory here."""
    return 4 if bits <= 4 else 8


def by_lane(values: Tensor) -> Tensor:
    """(rows, groups) → (blocks, groups, 8), rows in eights: what one vector loads of a group's scales or zeros."""
    return values.view(-1, LANES, values.shape[1]).transpose(1, 2).contiguous()


def arranged(codes: Tensor, bits: int) -> Tensor:
    """(rows, columns) uint8, rows and columns in eights → (blocks, lanes of a row, 8) int32; a lane holds as many
    columns as it has room for, the first in its lowest bits."""
    if width(bits) == 4:
        codes = codes[:, ::2] | (codes[:, 1::2] << 4)
    return by_lane(codes.contiguous().view(torch.int32))


class Packed:
    """A matrix as the compiled product reads it: of (rows, columns) codes, (rows, groups) scales in float16 and zeros,
    rows in eights and columns in whole groups of eights."""

    def __init__(self, codes: Tensor, scale: Tensor, zero: Tensor, bits: int) -> None:
        (self.rows, self.columns), self.groups = codes.shape, scale.shape[1]
        self.codes, self.scale, self.zero = arranged(codes, bits), by_lane(scale), by_lane(zero)
        self.width, self.group = width(bits), self.columns // self.groups
        self.counts = self.groups, self.rows // LANES, max(1, GRAIN // (self.columns * LANES))

    def multiply(self, x: Tensor) -> Tensor:
        """x (tokens, columns) contiguous, bfloat16 or float32 → (tokens, rows) in the same dtype."""
        tokens = x.shape[0]
        y = x.new_empty((tokens, self.rows))
        if not tokens:
            return y  # the loops run at least once
        addresses = self.codes.data_ptr(), self.scale.data_ptr(), self.zero.data_ptr(), y.data_ptr()
        compiled(self.width, self.group, x.dtype == torch.bfloat16)(x.data_ptr(), *addresses, tokens, *self.counts)
        return y


@cache
def compiled(width: int, group: int, narrow: bool) -> Callable[..., None]:
    """The product for codes of 4 or 8 bits in groups of `group` columns (whole eights), `narrow` for bfloat16."""
    kinds = [ctypes.c_void_p] * 5 + [ctypes.c_int64] * 4
    return build(program(width, group, narrow, parallel_for()), {"product": kinds})["product"]


def build(text: str, kinds: Mapping[str, Sequence[Any]]) -> dict[str, Callable[..., None]]:
    """Functions of a module in LLVM's language, by name, with the kinds of what each takes."""
    llvm, target = _llvm(), _target()
    module = llvm.parse_assembly(text)
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = tuning.slp_vectorization = True
    passes = llvm.create_pass_builder(target, tuning)
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, target)
    engine.finalize_object()
    found: dict[str, Callable[..., None]] = {}
    for name, each in kinds.items():
        function: Any = ctypes.CFUNCTYPE(None, *each)(engine.get_function_address(name))
        function.engine = engine  # the code lives as long as its engine
        found[name] = function
    return found


@cache
def _llvm() -> Any:
    """The library that compiles, or None."""
    try:
        return import_module("llvmlite.binding")
    except (ImportError, OSError):
        return None


@cache
def _target() -> Any:
    """LLVM's description of this processor, or None."""
    llvm = _llvm()
    features: Any = llvm.get_host_cpu_features() if llvm else {}
    if not all(features.get(name) for name in NEEDED):
        return None
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    host = {"cpu": llvm.get_host_cpu_name(), "features": features.flatten()}
    return llvm.Target.from_default_triple().create_target_machine(opt=3, **host)


@cache
def parallel_for() -> int | None:
    """Where torch's own pool of threads is called: a second pool would fight with it for the cores."""
    folder = Path(torch.__file__).parent / "lib"
    for name in LIBRARIES:
        try:
            return ctypes.cast(ctypes.CDLL(str(folder / name)).torch_parallel_for, ctypes.c_void_p).value
        except (OSError, AttributeError):
            continue
    return None
