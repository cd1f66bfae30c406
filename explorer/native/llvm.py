"""Functions in LLVM's language, built at run time for this processor: what writes them, what compiles them, and torch's
own pool of threads to run them on. Without llvmlite, or on a processor that lacks the instructions, nothing is here."""

import ctypes
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

NEEDED = ("avx2", "fma", "f16c")
LIBRARIES = ("libtorch_cpu.so", "torch_cpu.dll")
FREE = "reassoc contract nsz"  # sums may be taken in any order; what is not a number stays none
LOG2E, LN2 = 1.4426950408889634, 0.6931471805599453
Given = Mapping[str, str]  # what a part of the work is given: name → kind


@cache
def available() -> bool:
    """Whether this processor has the instructions, and what compiles for it is there."""
    return platform.machine().lower() in ("x86_64", "amd64") and _processor() is not None and parallel_for() is not None


def build(text: str, kinds: Mapping[str, Sequence[Any]]) -> dict[str, Callable[..., None]]:
    """Functions of a module in LLVM's language, by name, with the kinds of what each takes."""
    llvm = _llvm()
    target = llvm.Target.from_default_triple().create_target_machine(
        opt=3, **(_processor() or {})
    )  # each engine owns its own
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


def load(name: str, kinds: Mapping[str, Sequence[Any]]) -> dict[str, Callable[..., None]]:
    """Functions of a source in `c/`, which lies there as LLVM's language too (see `emit`)."""
    return build((Path(__file__).parent / "c" / f"{name}.ll").read_text(encoding="utf-8"), kinds)


@cache
def _llvm() -> Any:
    """The library that compiles, or None."""
    try:
        return import_module("llvmlite.binding")
    except (ImportError, OSError):
        return None


@cache
def _processor() -> Mapping[str, str] | None:
    """This processor as LLVM describes it, or None where it lacks something."""
    llvm = _llvm()
    features: Any = llvm.get_host_cpu_features() if llvm else {}
    if not all(features.get(name) for name in NEEDED):
        return None
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return {"cpu": llvm.get_host_cpu_name(), "features": features.flatten()}


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


class Function:
    """A function in LLVM's language, line by line. Variables live in memory; LLVM brings them into registers."""

    def __init__(self, head: str, narrow: bool) -> None:
        self.head, self.narrow, self.element = head, narrow, "i16" if narrow else "float"
        self.places, self.lines = list[str](), list[str]()
        self.count = 0

    def let(self, value: str) -> str:
        self.count += 1
        self.lines.append(f"%v{self.count} = {value}")
        return f"%v{self.count}"

    def do(self, line: str) -> None:
        self.lines.append(line)

    def variable(self, kind: str, value: str) -> str:
        self.count += 1
        name = f"%m{self.count}"
        self.places.append(f"{name} = alloca {kind}")
        self.do(f"store {kind} {value}, ptr {name}")
        return name

    def get(self, place: str, kind: str = "float") -> str:
        return self.let(f"load {kind}, ptr {place}")

    def at(self, base: str, index: str, kind: str | None = None) -> str:
        return self.let(f"getelementptr {kind or self.element}, ptr {base}, i64 {index}")

    @contextmanager
    def each(self, end: str, begin: str = "0") -> Iterator[str]:
        """The numbers from begin to end, of which there is at least one."""
        place = self.variable("i64", begin)
        self.count += 1
        label = f"loop{self.count}"
        self.do(f"br label %{label}")
        self.do(f"{label}:")
        number = self.get(place, "i64")
        yield number
        following = self.let(f"add nuw i64 {number}, 1")
        self.do(f"store i64 {following}, ptr {place}")
        more = self.let(f"icmp ult i64 {following}, {end}")
        self.do(f"br i1 {more}, label %{label}, label %{label}.end")
        self.do(f"{label}.end:")

    def read(self, base: str, index: str) -> str:
        """An element as float32; bfloat16 is the upper half of one."""
        value = self.get(self.at(base, index), self.element)
        if not self.narrow:
            return value
        wide = self.let(f"zext i16 {value} to i32")
        return self.let(f"bitcast i32 {self.let(f'shl i32 {wide}, 16')} to float")

    def write(self, value: str, base: str, index: str) -> None:
        """float32 to the element, bfloat16 to the nearest, ties to even; what is not a number stays none."""
        if self.narrow:
            bits = self.let(f"bitcast float {value} to i32")
            odd = self.let(f"and i32 {self.let(f'lshr i32 {bits}, 16')}, 1")
            near = self.let(f"add i32 {bits}, {self.let(f'add i32 {odd}, 32767')}")
            sound = self.let(f"fcmp ord float {value}, 0.0")
            kept = self.let(f"select i1 {sound}, i32 {near}, i32 2143289344")
            value = self.let(f"trunc i32 {self.let(f'lshr i32 {kept}, 16')} to i16")
        self.do(f"store {self.element} {value}, ptr {self.at(base, index)}")

    def mul(self, one: str, other: str | int) -> str:
        return self.let(f"mul i64 {one}, {other}")

    def add(self, one: str, other: str | int) -> str:
        return self.let(f"add i64 {one}, {other}")

    def op(self, name: str, *values: str) -> str:
        return self.let(f"{name} {FREE} float {', '.join(values)}")

    def call(self, name: str, *values: str) -> str:
        return self.let(f"call float @llvm.{name}.f32({', '.join(f'float {value}' for value in values)})")

    def exp(self, value: str) -> str:
        """To one part in ten million: 2 to a whole number, and a series for the rest."""
        scaled = self.op("fmul", value, real(LOG2E))
        bounded = self.call("minimum", self.call("maximum", scaled, real(-126.0)), real(127.0))
        whole = self.call("nearbyint", bounded)
        rest = self.op("fmul", self.op("fsub", bounded, whole), real(LN2))
        series = real(1 / 720)
        for factor in (1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0):
            series = self.op("fadd", self.op("fmul", series, rest), real(factor))
        power = self.let(f"call i32 @llvm.fptosi.sat.i32.f32(float {whole})")
        bits = self.let(f"shl i32 {self.let(f'add i32 {power}, 127')}, 23")
        return self.op("fmul", series, self.let(f"bitcast i32 {bits} to float"))

    def add_to(self, place: str, value: str) -> None:
        self.do(f"store float {self.op('fadd', self.get(place), value)}, ptr {place}")

    def text(self) -> str:
        return "\n  ".join([f"{self.head} {{\nentry:", *self.places, *self.lines, "ret void\n}\n"])


def real(value: float) -> str:
    """A float32 constant as LLVM writes it: the bits of the float64 that equals it."""
    bits = ctypes.c_uint64.from_buffer(ctypes.c_double(ctypes.c_float(value).value)).value
    return f"0x{bits:016X}"


def part(name: str, given: Given, narrow: bool = False) -> Function:
    """A function that does the pieces from %begin to %end of some work, with what all pieces are given."""
    f = Function(f"define internal void @{name}(i64 %begin, i64 %end, ptr %given)", narrow)
    for line in unpacked(given):
        f.do(line)
    return f


def packed(given: Given) -> Iterator[str]:
    """Lines that put what is given where %given points to."""
    for place, (name, kind) in enumerate(given.items()):
        yield f"%{name}.at = getelementptr i64, ptr %given, i64 {place}"
        yield f"store {kind} %{name}, ptr %{name}.at"


def unpacked(given: Given) -> Iterator[str]:
    """Lines that read it from there."""
    for place, (name, kind) in enumerate(given.items()):
        yield f"%{name}.at = getelementptr i64, ptr %given, i64 {place}"
        yield f"%{name} = load {kind}, ptr %{name}.at"


def on_all_threads(name: str, count: str, grain: str) -> str:
    """The line that has `count` pieces done, at least `grain` by a thread; %given points to what they are given."""
    pool = f"inttoptr (i64 {parallel_for() or 0} to ptr)"
    return f"%ignored = call i32 {pool}(i64 0, i64 {count}, i64 {grain}, ptr @{name}, ptr %given)"


def in_parts(name: str, part: str, given: Given) -> str:
    """A function that takes what is given, a count and a grain, and has the part do so many pieces on all threads."""
    f = Function(
        f"define void @{name}({', '.join(f'{kind} %{word}' for word, kind in given.items())}, i64 %count, i64 %grain)",
        False,
    )
    f.places.append(f"%given = alloca [{len(given)} x i64]")
    for line in [*packed(given), on_all_threads(part, "%count", "%grain")]:
        f.do(line)
    return f.text()
