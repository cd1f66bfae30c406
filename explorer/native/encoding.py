"""What encoding does to every single weight, compiled at run time (see `llvm`): ranges, rounding, packing, leaving out
zeros, and the way back. torch goes through memory six to twelve times for each of them, this once. Results are those of
`methods.quantize` and `methods.bits`, bit for bit, which also do the work where nothing can be compiled.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from explorer.methods import bits as plain
from explorer.methods import quantize
from explorer.native import llvm
from explorer.native.llvm import Function
from explorer.native.ranges import CONSTANTS, between, groups, ranges, search

GRAIN = 2**15  # weights from which a second thread pays
Body = Callable[[Function, str, str], None]  # writes what is done to a row: its number, the kind of its elements
ELEMENTS = {1: "i8", 2: "i16", 4: "i32"}  # by bytes


def grid(weight: Tensor, bits: int, group: int) -> tuple[Tensor, Tensor]:
    """See `quantize.grid`."""
    if not _numbers(weight):
        return quantize.grid(weight, bits, group)
    groups, size = quantize.groups_of(weight.shape[1], group)
    low, high = torch.empty(2, weight.shape[0], groups)
    _run("ranges", [weight, low, high], [weight.shape[1], groups, size])
    return quantize.grid_over(low, high, bits)


def search_grid(weight: Tensor, bits: int, group: int, importance: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """See `quantize.search_grid`; sums are taken in another order, so of two ranges as good it may find the other."""
    if not _numbers(weight):
        return quantize.search_grid(weight, bits, group, importance)
    rows, columns = weight.shape
    groups, size = quantize.groups_of(columns, group)
    step, zero = torch.empty(2, rows, groups)
    weigh = torch.ones(columns) if importance is None else importance.float()
    numbers = [size, columns, groups, columns if weigh.dim() == 2 else 0, 2**bits - 1]
    _run("search", [weight, weigh, step, zero], numbers, rows=rows * groups)
    return step.to(torch.float16), zero.to(torch.uint8)


def round_on(weight: Tensor, scale: Tensor, zero: Tensor, bits: int, group: int) -> Tensor:
    """See `quantize.round_on`."""
    if not _numbers(weight):
        return quantize.round_on(weight, scale, zero, bits, group)
    codes = torch.empty(weight.shape, dtype=torch.uint8)
    sizes = [weight.shape[1], *quantize.groups_of(weight.shape[1], group)]
    _run("round", [weight, scale, zero, codes], [*sizes, 2**bits - 1])
    return codes


def dequantize(codes: Tensor, scale: Tensor, zero: Tensor, group: int, dtype: torch.dtype) -> Tensor:
    """See `quantize.dequantize`."""
    weight = torch.empty(codes.shape, dtype=dtype, device=codes.device)
    if not _numbers(weight):
        return quantize.dequantize(codes, scale, zero, group, dtype)
    _run("decode", [weight, scale, zero, codes], [codes.shape[1], *quantize.groups_of(codes.shape[1], group)])
    return weight


def pack(codes: Tensor, bits: int) -> Tensor:
    """See `bits.pack`."""
    if bits == 8 or not _here(codes):
        return plain.pack(codes, bits)
    codes = torch.nn.functional.pad(codes, (0, -codes.shape[1] % 8)) if codes.shape[1] % 8 else codes
    packed = torch.empty(codes.shape[0], plain.packed_width(codes.shape[1], bits), dtype=torch.uint8)
    _run(f"pack{bits}", [codes, packed], [codes.shape[1] // 8])
    return packed


def lanes(codes: Tensor, width: int) -> Tensor:
    """(rows, columns) codes of 4 or 8 bits, rows and columns in eights → (blocks, lanes of a row, 8) int32: eight rows
    side by side, a lane holding as many columns as it has room for, the first in its lowest bits."""
    count = codes.shape[1] * width // 32
    found = torch.empty(codes.shape[0] // 8, count, 8, dtype=torch.int32)
    _run(f"lanes{width}", [codes, found], [codes.shape[1], count], rows=found.shape[0])
    return found


def select(matrix: Tensor, mask: Tensor, shape: tuple[int, int]) -> Tensor:
    """What a mask leaves, in this shape: as many of each row, or in one row all of it. See `bits.select`."""
    if not _here(matrix):
        return plain.select(matrix, mask).view(shape)
    values = torch.empty(shape, dtype=matrix.dtype)
    _run("select", [matrix, mask, values], [matrix.numel() // shape[0], shape[1]], rows=shape[0])
    return values


def spread(values: Tensor, mask: Tensor) -> Tensor:
    """The inverse of `select`, zero elsewhere, in the mask's shape."""
    if not _here(values):
        return plain.spread(values, mask)
    whole, values = torch.empty(mask.shape, dtype=values.dtype), values.view(-1, values.shape[-1])
    _run("spread", [whole, mask, values], [mask.numel() // values.shape[0], values.shape[1]], rows=values.shape[0])
    return whole


def masked(matrix: Tensor, mask: Tensor) -> Tensor:
    """See `bits.masked`."""
    if not _here(matrix):
        return plain.masked(matrix, mask)
    left = torch.empty(matrix.shape, dtype=matrix.dtype)
    _run("mask", [matrix, mask, left], [matrix.shape[1]])
    return left


def _here(tensor: Tensor) -> bool:
    """Whether there is something to do that the compiled functions can do."""
    known = tensor.device.type == "cpu" and tensor.element_size() in ELEMENTS
    return known and tensor.numel() > 0 and llvm.available()


def _numbers(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.bfloat16, torch.float32) and _here(tensor)


def _run(name: str, tensors: list[Tensor], numbers: list[int], rows: int = 0) -> None:
    """Row by row of the first tensor, or of so many rows, whose columns the first number counts, on all threads."""
    tensors = [tensor.contiguous() for tensor in tensors]
    addresses, element = [tensor.data_ptr() for tensor in tensors], tensors[0].element_size()
    run = _function(name, ELEMENTS[element], len(addresses), len(numbers))
    run(*addresses, *numbers, rows or tensors[0].shape[0], max(1, GRAIN // numbers[0]))


@cache
def _function(name: str, element: str, pointers: int, numbers: int) -> Callable[..., None]:
    kinds = [ctypes.c_void_p] * pointers + [ctypes.c_int64] * (numbers + 2)
    return llvm.build(program(name, element), {name: kinds})[name]


def program(name: str, element: str) -> str:
    """The module in LLVM's language with this function, for matrices of elements of this kind."""
    given, body = _BODIES[name]
    kinds = {word: "ptr" if word in _POINTERS else "i64" for word in given.split()}
    f = llvm.part("rows", kinds, narrow=element == "i16")
    with f.each("%end", "%begin") as row:
        body(f, row, element)
    return "\n".join([CONSTANTS, _DECLARED, f.text(), llvm.in_parts(name, "rows", kinds)])


_DECLARED = """
declare i64 @llvm.umin.i64(i64, i64)
declare float @llvm.nearbyint.f32(float)
declare float @llvm.minnum.f32(float, float)
declare float @llvm.maxnum.f32(float, float)
"""
_POINTERS = ("x", "weigh", "low", "high", "scale", "step", "zero", "codes", "mask", "values", "left", "packed", "found")


def _grid_of(f: Function, place: str) -> tuple[str, str]:
    """Scale and zero of a group as float32."""
    scale = f.let(f"fpext half {f.get(f.at('%scale', place, 'half'), 'half')} to float")
    return scale, f.let(f"uitofp i8 {f.get(f.at('%zero', place, 'i8'), 'i8')} to float")


def _round(f: Function, row: str, _: str) -> None:
    start = f.mul(row, "%columns")
    x, codes = f.at("%x", start), f.at("%codes", start, "i8")
    top = f.let("uitofp i64 %top to float")
    with groups(f, row) as (place, begin, end):
        scale, zero = _grid_of(f, place)
        with f.each(end, begin) as i:
            near = f.call("nearbyint", f.let(f"fdiv float {f.read(x, i)}, {scale}"))
            code = between(f, f.let(f"fadd float {near}, {zero}"), "0.0", top)
            f.do(f"store i8 {f.let(f'fptoui float {code} to i8')}, ptr {f.at(codes, i, 'i8')}")


def _decode(f: Function, row: str, _: str) -> None:
    start = f.mul(row, "%columns")
    x, codes = f.at("%x", start), f.at("%codes", start, "i8")
    with groups(f, row) as (place, begin, end):
        scale, zero = _grid_of(f, place)
        with f.each(end, begin) as i:
            code = f.let(f"uitofp i8 {f.get(f.at(codes, i, 'i8'), 'i8')} to float")
            f.write(f.let(f"fmul float {f.let(f'fsub float {code}, {zero}')}, {scale}"), x, i)


def gathered(f: Function, eight: str, width: int) -> str:
    """Eight codes below 2^width, a byte each, side by side in the lowest 8 · width bits, the first one lowest."""
    for step in (1, 2, 4):
        near = f.let(f"or i64 {eight}, {f.let(f'lshr i64 {eight}, {step * (8 - width)}')}")
        eight = f.let(f"and i64 {near}, {_repeated(2 * step * width, 16 * step)}")
    return eight


def _packing(bits: int) -> Body:
    def body(f: Function, row: str, _: str) -> None:
        codes = f.at("%codes", f.mul(row, "%eighths"), "i64")
        packed = f.at("%packed", f.mul(f.mul(row, "%eighths"), bits), "i8")
        with f.each("%eighths") as i:
            eight, above = f.get(f.at(codes, i, "i64"), "i64"), 0  # bits of the planes before
            for width in plain.planes(bits):
                plane = f.let(f"and i64 {f.let(f'lshr i64 {eight}, {bits - above - width}')}, {_repeated(width, 8)}")
                whole = f.let(f"trunc i64 {gathered(f, plane, width)} to i{8 * width}")
                at = f.add(f.mul("%eighths", above), f.mul(i, width))
                f.do(f"store i{8 * width} {whole}, ptr {f.at(packed, at, 'i8')}, align 1")
                above += width

    return body


def _laying(width: int) -> Body:
    def body(f: Function, block: str, _: str) -> None:
        per, found = 32 // width, f.at("%found", f.mul(f.mul(block, "%lanes"), 8), "i32")
        codes = f.at("%codes", f.mul(f.mul(block, "%columns"), 8), "i8")
        with f.each("%lanes") as lane, f.each("8") as row:
            at = f.at(codes, f.add(f.mul(row, "%columns"), f.mul(lane, per)), "i8")
            whole = f.get(at, f"i{8 * per}")
            if width < 8:
                whole = f.let(f"trunc i64 {gathered(f, whole, width)} to i32")
            f.do(f"store i32 {whole}, ptr {f.at(found, f.add(f.mul(lane, 8), row), 'i32')}")

    return body


def _repeated(ones: int, every: int) -> int:
    """64 bits in which each `every` begin with so many ones, as LLVM writes such a number: signed."""
    bits: int = sum((2**ones - 1) << at for at in range(0, 64, every))
    return bits - 2**64 if bits >= 2**63 else bits


@contextmanager
def _kept(f: Function, row: str, element: str) -> Iterator[tuple[str, str, str, str]]:
    """Each place of a row: where its element lies, where the kept ones go, how many came before, whether it stays."""
    start, k = f.mul(row, "%columns"), f.variable("i64", "0")
    x, mask, values = f.at("%x", start, element), f.at("%mask", start, "i8"), f.mul(row, "%kept")
    values = f.at("%values", values, element)
    with f.each("%columns") as i:
        place, flag = f.get(k, "i64"), _flag(f, mask, i)
        yield f.at(x, i, element), values, place, flag
        f.do(f"store i64 {f.add(place, flag)}, ptr {k}")


def _select(f: Function, row: str, element: str) -> None:
    """Every element is written where the next one kept belongs; past the end it goes where nobody looks."""
    spare = f.variable(element, "0")
    with _kept(f, row, element) as (x, values, place, _):
        room = f.let(f"icmp ult i64 {place}, %kept")
        to = f.let(f"select i1 {room}, ptr {f.at(values, place, element)}, ptr {spare}")
        f.do(f"store {element} {f.get(x, element)}, ptr {to}")


def _spread(f: Function, row: str, element: str) -> None:
    last = f.let("sub i64 %kept, 1")
    with _kept(f, row, element) as (x, values, place, flag):
        within = f.let(f"call i64 @llvm.umin.i64(i64 {place}, i64 {last})")
        value = f.get(f.at(values, within, element), element)
        f.do(f"store {element} {_if_kept(f, flag, value, element)}, ptr {x}")


def _mask(f: Function, row: str, element: str) -> None:
    start = f.mul(row, "%columns")
    x, mask, left = (
        f.at(f"%{name}", start, kind) for name, kind in {"x": element, "mask": "i8", "left": element}.items()
    )
    with f.each("%columns") as i:
        value = f.get(f.at(x, i, element), element)
        f.do(f"store {element} {_if_kept(f, _flag(f, mask, i), value, element)}, ptr {f.at(left, i, element)}")


def _flag(f: Function, mask: str, i: str) -> str:
    return f.let(f"zext i8 {f.get(f.at(mask, i, 'i8'), 'i8')} to i64")


def _if_kept(f: Function, flag: str, value: str, element: str) -> str:
    """By the bits: of a `select` LLVM makes a branch, which a mask takes at random (4 times as slow)."""
    ones = f.let(f"trunc i64 {f.let(f'sub i64 0, {flag}')} to {element}")
    return f.let(f"and {element} {value}, {ones}")


_BODIES: dict[str, tuple[str, Body]] = {
    "ranges": ("x low high columns groups size", ranges),
    "search": ("x weigh step zero size columns groups stride top", search),
    "round": ("x scale zero codes columns groups size top", _round),
    "decode": ("x scale zero codes columns groups size", _decode),
    "select": ("x mask values columns kept", _select),
    "spread": ("x mask values columns kept", _spread),
    "mask": ("x mask left columns", _mask),
    **{f"lanes{width}": ("codes found columns lanes", _laying(width)) for width in (4, 8)},
    **{f"pack{bits}": ("codes packed eighths", _packing(bits)) for bits in range(1, 8)},
}
NAMES = tuple(_BODIES)
