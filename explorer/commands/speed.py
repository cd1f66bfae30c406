"""The command that tells how fast a recipe's model runs here, and why."""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator

from explorer.commands.options import Commands, build, open_model, prepare, recipes_of
from explorer.measure.speed import PROMPT_TOKENS
from explorer.studies.profiling import profile
from explorer.values.performance import Machine, Performance, verdict
from explorer.values.reading import Reading


def add(commands: Commands, model: argparse.ArgumentParser, recipe: argparse.ArgumentParser) -> None:
    """`speed`."""
    parser = commands.add_parser("speed", parents=[model, recipe], help="how fast, where the time goes, and its limit")
    parser.add_argument("--json", action="store_true", help="one JSON object a recipe")
    parser.add_argument("--rounds", type=int, default=5, help="timing rounds, original and compressed in turns")
    parser.add_argument("--prompt-tokens", type=int, default=PROMPT_TOKENS, help="tokens of the timed prompt")
    parser.add_argument("--batch", type=int, default=1, help="texts that are timed at once")
    parser.set_defaults(run=_speed)


def _speed(options: argparse.Namespace) -> None:
    if min(options.rounds, options.prompt_tokens, options.batch) < 1:
        raise ValueError("--rounds, --prompt-tokens and --batch must be at least 1.")
    recipes = recipes_of(options)
    workbench = open_model(options)
    prepare(workbench, recipes)
    for recipe in recipes:
        build(workbench, recipe)
        long = {"prompt_tokens": options.prompt_tokens, "batch": options.batch, "rounds": options.rounds}
        found: Performance | None = None
        for found in profile(workbench, recipe, **long):
            rows = len(found.machine.products) if found.machine else 0
            done = f"\r{rows} products, {len(found.surface)} places of the surface timed"
            print(done, end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        assert found
        print(json.dumps(found.to_dict()) if options.json else "\n".join(_lines(found)), flush=True)


def _lines(found: Performance) -> Iterator[str]:
    speed, machine = found.compressed.speed, found.machine
    assert machine
    yield f"{found.model}: {found.recipe.words()}"
    busy = found.original.speed.busy or speed.busy
    yield (
        f"  timed on    {machine.processor}, {machine.threads} threads, {machine.dtype}, reads"
        f" {machine.bandwidth.value / 1e9:.1f} GB/s{'; busy: times differ by more than 25 %' if busy else ''}"
    )
    for name, side in (("original", found.original), ("compressed", found.compressed)):
        yield (
            f"  {name:11} {_ms(side.speed.ms_per_token)}/token   prefill {_ms(side.speed.prefill_ms)}"
            f" for {side.speed.prompt_tokens} tokens × {side.speed.batch}   kernel {side.speed.kernel}"
        )
    yield f"  ratio       decode {_ratio(speed.decode_ratio)}   prefill {_ratio(speed.prefill_ratio)}"
    for name, side in (("original", found.original), ("compressed", found.compressed)):
        assert side.roofline and side.parts and side.energy
        roof, energy, parts = side.roofline, side.energy, side.parts
        shares = "   ".join(f"{part} {ms.value:.2f}" for part, ms in parts.parts.items())
        yield f"  {name}, one token: {shares}   together {parts.total.value:.2f} ms"
        yield (
            f"    roofline  {roof.bytes_per_token.value / 1e6:.1f} MB per token, at least {roof.floor_ms.value:.2f} ms:"
            f" {roof.share.value:.0%} of the limit reached"
        )
        yield (
            f"    energy    {energy.joules_per_token.value:.4f} J/token   {energy.kwh_per_million.value:.4f} kWh and"
            f" {energy.co2_g_per_million.value:.1f} g CO2 per million tokens ({energy.source})"
        )
    yield from _surface(found)
    yield from _kernels(machine)


def _surface(found: Performance) -> Iterator[str]:
    yield "  surface     original / compressed (texts × prompt: prefill, decode)"
    for cell in found.surface:
        timed = cell.compressed
        yield (
            f"    {cell.batch:2} × {cell.prompt_tokens:4}   prefill {_ratio(timed.prefill_ratio):36}"
            f" decode {_ratio(timed.decode_ratio)}"
        )


def _kernels(machine: Machine) -> Iterator[str]:
    """µs by kernel and shape, one line a shape and number of tokens."""
    yield "  kernels     µs for one product (times the dense one's speed)"
    rows: dict[tuple[tuple[int, int], int], dict[str, float]] = defaultdict(dict)
    for each in machine.products:
        rows[each.shape, each.tokens][each.kernel] = each.ms.value * 1e3
    for (shape, tokens), times in rows.items():
        cells = (f"{name} {us:.0f} ({times['dense'] / us:.1f})" for name, us in times.items())
        yield f"    {shape[0]:6}×{shape[1]:<5} {tokens:4} tokens   {'   '.join(cells)}"


def _ms(reading: Reading) -> str:
    return f"{reading.value:.1f} ms ({reading.low:.1f}–{reading.high:.1f}, n = {reading.n})"


def _ratio(ratio: Reading | None) -> str:
    if ratio is None:
        return "…"
    ends = f" ({ratio.low:.2f}–{ratio.high:.2f})" if ratio.low is not None else ""
    return f"{ratio.value:.2f}×{ends} {verdict(ratio)}"
