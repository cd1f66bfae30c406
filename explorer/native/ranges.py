"""The range of each group of a row, and the search for the one with the least error (see `methods.quantize`), in LLVM's
language: bodies of loops for `encoding`. A group's weights stay in the nearest cache while 19 ranges are tried.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from explorer.methods import quantize
from explorer.native.llvm import Function, real

INFINITE = real(float("inf"))
CONSTANTS = "\n".join(
    f"@{name} = private constant [{len(values)} x float] [{', '.join(f'float {real(value)}' for value in values)}]"
    for name, values in {"ratios": quantize.RATIOS, "changes": quantize.CHANGES}.items()
)


@contextmanager
def groups(f: Function, row: str) -> Iterator[tuple[str, str, str]]:
    """Each group of a row: where its scale lies, and where its weights begin and end in the row."""
    first = f.mul(row, "%groups")
    with f.each("%groups") as group:
        begin = f.mul(group, "%size")
        end = f.let(f"call i64 @llvm.umin.i64(i64 {f.add(begin, '%size')}, i64 %columns)")
        yield f.add(first, group), begin, end


def ranges(f: Function, row: str, _: str) -> None:
    x = f.at("%x", f.mul(row, "%columns"))
    with groups(f, row) as (place, begin, end):
        for name, found in _ends(f, x, begin, end).items():
            f.do(f"store float {found}, ptr {f.at(f'%{name}', place, 'float')}")


def _ends(f: Function, x: str, begin: str, end: str) -> dict[str, str]:
    """Lowest and highest of x from begin to end, and of 0."""
    ends = {name: f.variable("float", "0.0") for name in ("low", "high")}
    with f.each(end, begin) as i:
        value = f.read(x, i)
        for name, call in (("low", "minnum"), ("high", "maxnum")):
            found = f.let(f"call nnan nsz float @llvm.{call}.f32(float {f.get(ends[name])}, float {value})")
            f.do(f"store float {found}, ptr {ends[name]}")
    return {name: f.get(place) for name, place in ends.items()}


def search(f: Function, number: str, _: str) -> None:
    """One group: the unshrunken range, then whatever has a smaller error than the best so far."""
    row, begin = f.let(f"udiv i64 {number}, %groups"), f.mul(f.let(f"urem i64 {number}, %groups"), "%size")
    end = f.let(f"call i64 @llvm.umin.i64(i64 {f.add(begin, '%size')}, i64 %columns)")
    x, weigh = f.at("%x", f.mul(row, "%columns")), f.at("%weigh", f.mul(row, "%stride"), "float")
    top, whole = f.let("uitofp i64 %top to float"), _ends(f, x, begin, end)
    first = {
        **whole,
        **dict(zip(("step", "zero"), _fitted(f, whole["low"], whole["high"], top), strict=True)),
        "error": INFINITE,
    }
    best = {name: f.variable("float", value) for name, value in first.items()}

    def tried(low: str, high: str) -> None:
        step, zero = _fitted(f, low, high, top)
        inverse, total = f.let(f"fdiv float 1.0, {step}"), f.variable("float", "0.0")
        lowest, highest = f.let(f"fneg float {zero}"), f.let(f"fsub float {top}, {zero}")
        with f.each(end, begin) as i:
            exact = f.let(f"fmul float {f.read(x, i)}, {inverse}")
            error = f.let(f"fsub float {exact}, {between(f, f.call('nearbyint', exact), lowest, highest)}")
            f.add_to(total, f.op("fmul", f.op("fmul", error, error), f.get(f.at(weigh, i, "float"))))
        error = f.let(f"fmul float {f.get(total)}, {f.let(f'fmul float {step}, {step}')}")
        smaller = f.let(f"fcmp olt float {error}, {f.get(best['error'])}")
        for name, value in zip(best, (low, high, step, zero, error), strict=True):
            kept = f.let(f"select i1 {smaller}, float {value}, float {f.get(best[name])}")
            f.do(f"store float {kept}, ptr {best[name]}")

    with f.each(str(len(quantize.RATIOS))) as i:
        ratio = f.get(f.at("@ratios", i, "float"))
        tried(*(f.let(f"fmul float {ratio}, {found}") for found in whole.values()))
    for moved in ("high", "low"):
        with f.each(str(len(quantize.CHANGES))) as i:
            ends = {name: f.get(best[name]) for name in whole}
            ends[moved] = f.let(f"fmul float {ends[moved]}, {f.get(f.at('@changes', i, 'float'))}")
            tried(*ends.values())
    for name in ("step", "zero"):
        f.do(f"store float {f.get(best[name])}, ptr {f.at(f'%{name}', number, 'float')}")


def _fitted(f: Function, low: str, high: str, top: str) -> tuple[str, str]:
    """Step and zero of the grid over a range, as they will be stored: see `quantize.grid_over`."""
    exact = f.let(f"fdiv float {f.let(f'fsub float {high}, {low}')}, {top}")
    bits = f.let(f"bitcast float {exact} to i32")
    upper = f.let(f"and i32 {f.let(f'add i32 {bits}, 65535')}, -65536")
    step = between(f, f.let(f"bitcast i32 {upper} to float"), real(quantize.TINY), real(quantize.LARGEST))
    step = f.let(f"fpext half {f.let(f'fptrunc float {step} to half')} to float")
    zero = f.call("nearbyint", f.let(f"fdiv float {f.let(f'fneg float {low}')}, {step}"))
    return step, between(f, zero, "0.0", top)


def between(f: Function, value: str, low: str, high: str) -> str:
    value = f.let(f"call nnan float @llvm.maxnum.f32(float {value}, float {low})")
    return f.let(f"call nnan float @llvm.minnum.f32(float {value}, float {high})")
