"""The product of inputs and packed codes in LLVM's language (see `compiled`, which builds and calls it)."""

from collections.abc import Iterable

from explorer.native.llvm import on_all_threads, packed, unpacked

LANES = 8  # rows of a block, 32-bit numbers of a vector


def program(width: int, group: int, narrow: bool) -> str:
    """The module in LLVM's language. `round`: inputs to int16 with a step and a sum for each group; `rows`: some blocks
    by all tokens; `product`: the one, then the other on all threads."""
    element, pairs = ("i16" if narrow else "float"), group // 2
    rounding, total, most = _rounding(width, group, narrow)
    dots, dot = _dots(width, group)
    return f"""
{_DECLARED}
define internal void @round(ptr %x, ptr %room, ptr %steps, ptr %sums, i64 %count) {{
entry:
  br label %group
group:
  %g = phi i64 [ 0, %entry ], [ %after, %group ]
  %xo = mul i64 %g, {group}
  %source = getelementptr {element}, ptr %x, i64 %xo
  %po = mul i64 %g, {pairs}
  %pairs = getelementptr i32, ptr %room, i64 %po
  {_lines(rounding)}
  %total = call i32 @llvm.vector.reduce.add.v8i32(<8 x i32> {total})
  %sum = sitofp i32 %total to float
  %sp = getelementptr float, ptr %sums, i64 %g
  store float %sum, ptr %sp
  %step = fdiv float {most}, 32767.0
  %tp = getelementptr float, ptr %steps, i64 %g
  store float %step, ptr %tp
  %after = add i64 %g, 1
  %last = icmp eq i64 %after, %count
  br i1 %last, label %done, label %group
done:
  ret void
}}

define internal void @rows(i64 %begin, i64 %end, ptr %given) {{
entry:
  {_lines(unpacked(_GIVEN))}
  %width = mul i64 %blocks, 8
  br label %block
block:
  %b = phi i64 [ %begin, %entry ], [ %nextblock, %written ]
  %first = mul i64 %b, %groups
  %row = mul i64 %b, 8
  br label %token
token:
  %t = phi i64 [ 0, %block ], [ %nexttoken, %tokenend ]
  %start = mul i64 %t, %groups
  br label %group
group:
  %g = phi i64 [ 0, %token ], [ %nextgroup, %group ]
  %sum = phi <8 x float> [ zeroinitializer, %token ], [ %more, %group ]
  %wg = add i64 %first, %g
  %wo = mul i64 %wg, {group * width}
  %lanes = getelementptr i8, ptr %codes, i64 %wo
  %xg = add i64 %start, %g
  %xo = mul i64 %xg, {pairs}
  %pairs = getelementptr i32, ptr %room, i64 %xo
  {_lines(dots)}
  %dot = sitofp <8 x i32> {dot} to <8 x float>
  %lane = mul i64 %wg, 8
  %zp = getelementptr i8, ptr %zeros, i64 %lane
  %zb = load <8 x i8>, ptr %zp, align 8
  %zi = zext <8 x i8> %zb to <8 x i32>
  %zero = sitofp <8 x i32> %zi to <8 x float>
  %cp = getelementptr half, ptr %scales, i64 %lane
  %ch = load <8 x half>, ptr %cp, align 16
  %scale = fpext <8 x half> %ch to <8 x float>
  {_lines(_spread("step", "steps") + _spread("shift", "sums"))}
  %below = fneg <8 x float> %zero
  %raw = call <8 x float> @llvm.fma.v8f32(<8 x float> %below, <8 x float> %shift, <8 x float> %dot)
  %unit = fmul <8 x float> %scale, %step
  %more = call <8 x float> @llvm.fma.v8f32(<8 x float> %raw, <8 x float> %unit, <8 x float> %sum)
  %nextgroup = add i64 %g, 1
  %lastgroup = icmp eq i64 %nextgroup, %groups
  br i1 %lastgroup, label %tokenend, label %group
tokenend:
  %yt = mul i64 %t, %width
  %yo = add i64 %yt, %row
  %out = getelementptr {element}, ptr %y, i64 %yo
  {_lines(_NARROWED if narrow else ["store <8 x float> %more, ptr %out, align 4"])}
  %nexttoken = add i64 %t, 1
  %lasttoken = icmp eq i64 %nexttoken, %tokens
  br i1 %lasttoken, label %written, label %token
written:
  %nextblock = add i64 %b, 1
  %lastblock = icmp eq i64 %nextblock, %end
  br i1 %lastblock, label %done, label %block
done:
  ret void
}}

define void @product(ptr %x, ptr %codes, ptr %scales, ptr %zeros, ptr %y,
                     i64 %tokens, i64 %groups, i64 %blocks, i64 %grain) {{
  %count = mul i64 %tokens, %groups
  %used = mul i64 %count, {pairs}
  %size = mul i64 %count, {4 * (pairs + 2)}
  %room = call ptr @malloc(i64 %size)
  %steps = getelementptr i32, ptr %room, i64 %used
  %sums = getelementptr float, ptr %steps, i64 %count
  call void @round(ptr %x, ptr %room, ptr %steps, ptr %sums, i64 %count)
  %given = alloca [{len(_GIVEN)} x i64]
  {_lines(packed(_GIVEN))}
  {on_all_threads("rows", "%blocks", "%grain")}
  call void @free(ptr %room)
  ret void
}}
"""


_DECLARED = """
declare ptr @malloc(i64)
declare void @free(ptr)
declare <8 x i32> @llvm.x86.avx2.pmadd.wd(<16 x i16>, <16 x i16>)
declare <8 x float> @llvm.fma.v8f32(<8 x float>, <8 x float>, <8 x float>)
declare <8 x float> @llvm.fabs.v8f32(<8 x float>)
declare <8 x float> @llvm.maximum.v8f32(<8 x float>, <8 x float>)
declare <8 x float> @llvm.nearbyint.v8f32(<8 x float>)
declare <8 x i32> @llvm.fptosi.sat.v8i32.v8f32(<8 x float>)
declare float @llvm.vector.reduce.fmaximum.v8f32(<8 x float>)
declare i32 @llvm.vector.reduce.add.v8i32(<8 x i32>)
"""
_GIVEN = {name: "ptr" for name in ("codes", "scales", "zeros", "y", "room", "steps", "sums")}
_GIVEN |= {name: "i64" for name in ("tokens", "groups", "blocks")}

_NARROWED = [  # float32 to bfloat16, to the nearest, ties to even
    "%bits = bitcast <8 x float> %more to <8 x i32>",
    "%shifted = lshr <8 x i32> %bits, splat (i32 16)",
    "%odd = and <8 x i32> %shifted, splat (i32 1)",
    "%bias = add <8 x i32> %odd, splat (i32 32767)",
    "%near = add <8 x i32> %bits, %bias",
    "%upper = lshr <8 x i32> %near, splat (i32 16)",
    "%short = trunc <8 x i32> %upper to <8 x i16>",
    "store <8 x i16> %short, ptr %out, align 2",
]


def _dots(width: int, group: int) -> tuple[list[str], str]:
    """Codes by inputs over a group, <8 x i32>: a shift and a mask leave one code in each half of a lane."""
    half, mask = 16 // width, 0x000F000F if width == 4 else 0x00FF00FF
    lines, sums = [], ["zeroinitializer", "zeroinitializer"]  # two chains of additions
    for i in range(group // (2 * half)):
        lines += [
            f"%lp{i} = getelementptr i8, ptr %lanes, i64 {4 * LANES * i}",
            f"%l{i} = load <8 x i32>, ptr %lp{i}, align 4",
        ]
        for k in range(half):
            n, chain = f"{i}.{k}", k % 2
            lines += [
                f"%s{n} = lshr <8 x i32> %l{i}, splat (i32 {width * k})",
                f"%c{n} = and <8 x i32> %s{n}, splat (i32 {mask})",
                f"%cw{n} = bitcast <8 x i32> %c{n} to <16 x i16>",
                f"%pp{n} = getelementptr i32, ptr %pairs, i64 {half * i + k}",
                f"%p{n} = load i32, ptr %pp{n}, align 4",
                f"%pe{n} = insertelement <8 x i32> poison, i32 %p{n}, i32 0",
                f"%pv{n} = shufflevector <8 x i32> %pe{n}, <8 x i32> poison, <8 x i32> zeroinitializer",
                f"%pw{n} = bitcast <8 x i32> %pv{n} to <16 x i16>",
                f"%d{n} = call <8 x i32> @llvm.x86.avx2.pmadd.wd(<16 x i16> %cw{n}, <16 x i16> %pw{n})",
                f"%a{n} = add <8 x i32> {sums[chain]}, %d{n}",
            ]
            sums[chain] = f"%a{n}"
    return [*lines, f"%dots = add <8 x i32> {sums[0]}, {sums[1]}"], "%dots"


def _rounding(width: int, group: int, narrow: bool) -> tuple[list[str], str, str]:
    """Inputs of a group as pairs of int16 as the halves of the codes' lanes pair them; names of their sum and of their
    largest. An input that is not a number makes the largest none, and with it all that it touches."""
    half = 16 // width
    low = [place for place in range(LANES) if place // half % 2 == 0]
    places = {name: ", ".join(f"i32 {place + more}" for place in low) for name, more in {"lo": 0, "hi": half}.items()}
    most, lines = "zeroinitializer", []
    for i in range(group // LANES):
        lines += _loaded(i, narrow)
        lines += [
            f"%abs{i} = call <8 x float> @llvm.fabs.v8f32(<8 x float> %f{i})",
            f"%max{i} = call <8 x float> @llvm.maximum.v8f32(<8 x float> {most}, <8 x float> %abs{i})",
        ]
        most = f"%max{i}"
    lines += [
        f"%most = call float @llvm.vector.reduce.fmaximum.v8f32(<8 x float> {most})",
        "%none = fcmp oeq float %most, 0.0",
        "%ratio = fdiv float 32767.0, %most",
        "%factor = select i1 %none, float 0.0, float %ratio",
        "%fe = insertelement <8 x float> poison, float %factor, i32 0",
        "%factors = shufflevector <8 x float> %fe, <8 x float> poison, <8 x i32> zeroinitializer",
    ]
    total = "zeroinitializer"
    for i in range(group // LANES):
        lines += [
            f"%y{i} = fmul <8 x float> %f{i}, %factors",
            f"%r{i} = call <8 x float> @llvm.nearbyint.v8f32(<8 x float> %y{i})",
            f"%q{i} = call <8 x i32> @llvm.fptosi.sat.v8i32.v8f32(<8 x float> %r{i})",
            f"%sum{i} = add <8 x i32> {total}, %q{i}",
            f"%lo{i} = shufflevector <8 x i32> %q{i}, <8 x i32> poison, <4 x i32> <{places['lo']}>",
            f"%hi{i} = shufflevector <8 x i32> %q{i}, <8 x i32> poison, <4 x i32> <{places['hi']}>",
            f"%lower{i} = and <4 x i32> %lo{i}, splat (i32 65535)",
            f"%upper{i} = shl <4 x i32> %hi{i}, splat (i32 16)",
            f"%pair{i} = or <4 x i32> %lower{i}, %upper{i}",
            f"%pt{i} = getelementptr i32, ptr %pairs, i64 {LANES // 2 * i}",
            f"store <4 x i32> %pair{i}, ptr %pt{i}, align 4",
        ]
        total = f"%sum{i}"
    return lines, total, "%most"


def _loaded(i: int, narrow: bool) -> list[str]:
    """Eight inputs as float32; bfloat16 is the upper half of one."""
    if not narrow:
        return [
            f"%fp{i} = getelementptr float, ptr %source, i64 {LANES * i}",
            f"%f{i} = load <8 x float>, ptr %fp{i}, align 4",
        ]
    return [
        f"%fp{i} = getelementptr i16, ptr %source, i64 {LANES * i}",
        f"%h{i} = load <8 x i16>, ptr %fp{i}, align 2",
        f"%w{i} = zext <8 x i16> %h{i} to <8 x i32>",
        f"%u{i} = shl <8 x i32> %w{i}, splat (i32 16)",
        f"%f{i} = bitcast <8 x i32> %u{i} to <8 x float>",
    ]


def _spread(name: str, source: str) -> list[str]:
    """This group's number, in every lane."""
    return [
        f"%{name}.p = getelementptr float, ptr %{source}, i64 %xg",
        f"%{name}.f = load float, ptr %{name}.p, align 4",
        f"%{name}.e = insertelement <8 x float> poison, float %{name}.f, i32 0",
        f"%{name} = shufflevector <8 x float> %{name}.e, <8 x float> poison, <8 x i32> zeroinitializer",
    ]


def _lines(lines: Iterable[str]) -> str:
    return "\n  ".join(lines)
