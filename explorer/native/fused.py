"""What lies between the products of one token, compiled at run time (see `compiled`): residual and norm, rotation and
attention, the gate of an MLP. torch takes ten small calls for each, and they outweigh the products themselves.

Arithmetic is in float32; what is stored is rounded once to the model's dtype, bfloat16 or float32.
"""

import ctypes
from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor

from explorer.native import llvm
from explorer.native.llvm import Function

GRAIN = 2**15  # products of numbers from which a second thread pays


def available(like: Tensor) -> bool:
    """Whether rows of this dtype on this device can be worked on here."""
    return like.device.type == "cpu" and like.dtype in (torch.bfloat16, torch.float32) and llvm.available()


class Norm:
    """x ← x + y, then RMSNorm of each row in the model's dtype: x (rows, width) float32, y and result in the dtype."""

    def __init__(self, weight: Tensor, eps: float, dtype: torch.dtype) -> None:
        self.weight, self.eps, self.dtype, self.width = weight.float().contiguous(), eps, dtype, weight.shape[0]
        self.at = self.weight.data_ptr()
        self.run = _functions(dtype == torch.bfloat16, 2)["norm"]

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        y, result = _plain(y, self.dtype), torch.empty_like(x, dtype=self.dtype)
        self.run(x.data_ptr(), y.data_ptr(), self.at, result.data_ptr(), x.shape[0], self.width, self.eps)
        return result


def gate(both: Tensor) -> Tensor:
    """silu(first half) · second half of each row, (rows, 2 width) → (rows, width)."""
    both, rows, width = both.contiguous(), both.shape[0], both.shape[1] // 2
    result = both.new_empty((rows, width))
    _functions(both.dtype == torch.bfloat16, 2)["gate"](both.data_ptr(), result.data_ptr(), rows, width)
    return result


class Attend:
    """Rotates the new token's query and key, writes key and value, and attends to all so far."""

    def __init__(self, heads: int, groups: int, size: int, scaling: float, dtype: torch.dtype) -> None:
        self.heads, self.groups, self.size, self.scaling = heads, groups, size, scaling
        self.run = _functions(dtype == torch.bfloat16, size)["attend"]

    def __call__(self, mixed: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor, place: int) -> Tensor:
        """mixed (texts, (heads + 2 groups) · size) contiguous; cos, sin (size,) float32, the sign of the half that is
        turned folded into sin; keys, values (texts, groups, room, size) contiguous → (texts, heads · size)."""
        mixed, texts, room = _plain(mixed, keys.dtype), mixed.shape[0], keys.shape[2]
        result = mixed.new_empty((texts, self.heads * self.size))
        tables = cos.data_ptr(), sin.data_ptr(), keys.data_ptr(), values.data_ptr()
        grain = max(1, GRAIN // (self.size * (place + 1)))
        numbers = texts, self.heads, self.groups, room, place, grain
        self.run(mixed.data_ptr(), *tables, result.data_ptr(), *numbers, self.scaling)
        return result


def _plain(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """As the functions read it: in this dtype, one row behind the other."""
    return (tensor if tensor.dtype == dtype else tensor.to(dtype)).contiguous()


@cache
def _functions(narrow: bool, size: int) -> dict[str, Callable[..., None]]:
    """For bfloat16 (`narrow`) or float32, and heads of this size."""
    pointer, number, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    kinds: dict[str, list[type]] = {
        "norm": [pointer] * 4 + [number] * 2 + [real],
        "gate": [pointer] * 2 + [number] * 2,
        "attend": [pointer] * 6 + [number] * 6 + [real],
    }
    return llvm.build(_program(narrow, size), kinds)


def _program(narrow: bool, size: int) -> str:
    names = ("minimum", "maximum", "nearbyint", "sqrt")
    two = [f"declare float @llvm.{name}.f32(float{', float' if name[0] == 'm' else ''})" for name in names]
    declared = [
        *two,
        "declare i32 @llvm.fptosi.sat.i32.f32(float)",
        "declare ptr @malloc(i64)",
        "declare void @free(ptr)",
    ]
    return "\n".join([*declared, _norm(narrow), _gate(narrow), _heads(narrow, size), _attend(narrow, size)])


def _norm(narrow: bool) -> str:
    pointers = ", ".join(f"ptr noalias %{name}" for name in ("x", "add", "w", "y"))
    f = Function(f"define void @norm({pointers}, i64 %rows, i64 %n, float %eps)", narrow)
    with f.each("%rows") as row:
        start = f.mul(row, "%n")
        x, add, y = f.at("%x", start, "float"), f.at("%add", start), f.at("%y", start)
        square = f.variable("float", "0.0")
        with f.each("%n") as i:
            at = f.at(x, i, "float")
            value = f.op("fadd", f.get(at), f.read(add, i))
            f.do(f"store float {value}, ptr {at}")
            f.add_to(square, f.op("fmul", value, value))
        mean = f.op("fdiv", f.get(square), f.let("uitofp i64 %n to float"))
        scale = f.op("fdiv", "1.0", f.call("sqrt", f.op("fadd", mean, "%eps")))
        with f.each("%n") as i:
            scaled = f.op("fmul", f.get(f.at(x, i, "float")), scale)
            f.write(f.op("fmul", scaled, f.get(f.at("%w", i, "float"))), y, i)
    return f.text()


def _gate(narrow: bool) -> str:
    f = Function("define void @gate(ptr noalias %both, ptr noalias %y, i64 %rows, i64 %n)", narrow)
    with f.each("%rows") as row:
        start = f.mul(row, "%n")
        first = f.at("%both", f.mul(start, 2))
        second, y = f.at(first, "%n"), f.at("%y", start)
        with f.each("%n") as i:
            value = f.read(first, i)
            below = f.op("fadd", "1.0", f.exp(f.let(f"fneg float {value}")))
            f.write(f.op("fmul", f.op("fdiv", value, below), f.read(second, i)), y, i)
    return f.text()


_GIVEN = {name: "ptr" for name in ("query", "scores", "mixed", "keys", "values", "out")}
_GIVEN |= {name: "i64" for name in ("per", "room", "seen")}


def _heads(narrow: bool, size: int) -> str:
    """Some heads: scores, their softmax, and the mean of the values by it."""
    f = llvm.part("heads", _GIVEN, narrow)
    with f.each("%end", "%begin") as head:
        group = f.let(f"udiv i64 {head}, %per")
        base = f.mul(f.mul(group, "%room"), size)
        keys, values = f.at("%keys", base), f.at("%values", base)
        own = f.mul(head, size)
        query, mixed = f.at("%query", own, "float"), f.at("%mixed", own, "float")
        scores = f.at("%scores", f.mul(head, "%seen"), "float")
        most = f.variable("float", "0xFFF0000000000000")
        with f.each("%seen") as t:
            key, dot = f.at(keys, f.mul(t, size)), f.variable("float", "0.0")
            f.do(f"store float 0.0, ptr {dot}")
            with f.each(str(size)) as d:
                f.add_to(dot, f.op("fmul", f.read(key, d), f.get(f.at(query, d, "float"))))
            score = f.get(dot)
            f.do(f"store float {score}, ptr {f.at(scores, t, 'float')}")
            f.do(f"store float {f.call('maximum', f.get(most), score)}, ptr {most}")
        top, total = f.get(most), f.variable("float", "0.0")
        with f.each("%seen") as t:
            at = f.at(scores, t, "float")
            share = f.exp(f.op("fsub", f.get(at), top))
            f.do(f"store float {share}, ptr {at}")
            f.add_to(total, share)
        with f.each(str(size)) as d:
            f.do(f"store float 0.0, ptr {f.at(mixed, d, 'float')}")
        with f.each("%seen") as t:
            value, share = f.at(values, f.mul(t, size)), f.get(f.at(scores, t, "float"))
            with f.each(str(size)) as d:
                f.add_to(f.at(mixed, d, "float"), f.op("fmul", f.read(value, d), share))
        scale, out = f.op("fdiv", "1.0", f.get(total)), f.at("%out", own)
        with f.each(str(size)) as d:
            f.write(f.op("fmul", f.get(f.at(mixed, d, "float")), scale), out, d)
    return f.text()


def _attend(narrow: bool, size: int) -> str:
    pointers = ", ".join(f"ptr noalias %{name}" for name in ("qkv", "cos", "sin", "keys", "values", "out"))
    numbers = ", ".join(f"i64 %{name}" for name in ("texts", "heads", "groups", "room", "place", "grain"))
    f = Function(f"define void @attend({pointers}, {numbers}, float %scaling)", narrow)
    f.do("%seen = add i64 %place, 1")
    f.do("%per = udiv i64 %heads, %groups")
    f.do("%all = mul i64 %texts, %heads")
    queries, scored = f.mul("%all", size), f.mul("%all", "%seen")
    room = f.mul(f.add(f.mul(queries, 2), scored), 4)
    f.do(f"%query = call ptr @malloc(i64 {room})")
    f.do(f"%mixed = getelementptr float, ptr %query, i64 {queries}")
    f.do(f"%scores = getelementptr float, ptr %mixed, i64 {queries}")
    rows = f.add("%heads", f.mul("%groups", 2))
    new = f.mul("%place", size)
    with f.each("%texts") as text:
        source = f.at("%qkv", f.mul(f.mul(text, rows), size))
        first, group0 = f.mul(text, "%heads"), f.mul(text, "%groups")
        with f.each("%heads") as head:
            own = f.at(source, f.mul(head, size))
            place = f.mul(f.add(first, head), size)
            query = f.at("%query", place, "float")
            for i, turned in _rotary(f, own, size):
                f.do(f"store float {f.op('fmul', turned, '%scaling')}, ptr {f.at(query, i, 'float')}")
        with f.each("%groups") as group:
            key_row = f.add("%heads", group)
            value_row = f.add(key_row, "%groups")
            base = f.mul(f.mul(f.add(group0, group), "%room"), size)
            to = f.add(base, new)
            key, value = f.at("%keys", to), f.at("%values", to)
            for i, turned in _rotary(f, f.at(source, f.mul(key_row, size)), size):
                f.write(turned, key, i)
            own = f.at(source, f.mul(value_row, size))
            with f.each(str(size)) as d:
                f.write(f.read(own, d), value, d)
    f.places.append(f"%given = alloca [{len(_GIVEN)} x i64]")
    for line in llvm.packed(_GIVEN):
        f.do(line)
    f.do(llvm.on_all_threads("heads", "%all", "%grain"))
    f.do("call void @free(ptr %query)")
    return f.text()


def _rotary(f: Function, own: str, size: int) -> Iterator[tuple[str, str]]:
    """(place, float32) of a head's rotated numbers, a loop over one half and then over the other."""
    for half in (0, size // 2):
        with f.each(str(size // 2)) as d:
            i, other = f.add(d, half), f.add(d, size // 2 - half)
            straight = f.op("fmul", f.read(own, i), f.get(f.at("%cos", i, "float")))
            across = f.op("fmul", f.read(own, other), f.get(f.at("%sin", i, "float")))
            yield i, f.op("fadd", straight, across)
