"""Commands that help to choose: what a model of any size takes, the best under a budget, many settings in turn."""

import argparse
import json
import math
import sys
from dataclasses import fields
from pathlib import Path

from explorer.commands.options import Commands, build, open_model, prepare, recipes_of, tell_share
from explorer.files import cache_folder
from explorer.studies import budget, sweep, trade
from explorer.studies.session import arguments_of, csv_of
from explorer.takes import catalogue, requirements
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench


def add(commands: Commands, model: argparse.ArgumentParser, recipe: argparse.ArgumentParser) -> None:
    """`what-it-takes`, `budget`, `sweep`."""
    budgeting = commands.add_parser(
        "budget", parents=[model], help="the best bits, zeros and ranks for each layer under a budget"
    )
    budgeting.add_argument("--mb", type=float, help="at most so many million bytes in all")
    budgeting.add_argument("--ms", type=float, help="at most so many milliseconds a token on this machine")
    budgeting.add_argument("--kl", type=float, help="at most so many nats from the original, as expected")
    budgeting.add_argument("--level", default="best", choices=("live", "best"), help="best: sparsegpt and gptq")
    budgeting.add_argument("--text", type=Path, help="your own evaluation text (UTF-8)")
    budgeting.add_argument("--tokens", type=int, default=2048, help="tokens to measure on (default 2048)")
    budgeting.add_argument("--json", action="store_true")
    budgeting.set_defaults(run=_budget)

    sweeping = commands.add_parser("sweep", parents=[model, recipe], help="many settings into a table; can be resumed")
    sweeping.add_argument("--out", type=Path, required=True, help="the table, one JSON object a line; is added to")
    sweeping.add_argument("--csv", type=Path, help="also write the table here as CSV")
    sweeping.add_argument("--search", type=int, default=0, metavar="N", help="the N most promising (Optuna), not all")
    sweeping.add_argument("--text", type=Path, help="your own evaluation text (UTF-8; lines of --- part passages)")
    sweeping.add_argument("--tokens", type=int, default=2048, help="evaluation tokens (default 2048)")
    sweeping.add_argument("--rounds", type=int, default=3, help="timing rounds; 0 leaves times out (default 3)")
    sweeping.set_defaults(run=_sweep)

    taking = commands.add_parser("what-it-takes", help="what any model needs, calculated without its weights")
    taking.add_argument("name", metavar="MODEL_OR_CONFIG", help="a name of the catalogue, a config.json or its folder")
    taking.add_argument("--context", type=int, help="tokens kept in the KV cache (default: the model's, at most 4096)")
    taking.add_argument("--batch", type=int, default=1, help="texts at once")
    taking.add_argument("--bits", type=int, default=16, help=f"of a weight, one of {requirements.BITS}")
    taking.add_argument("--json", action="store_true")
    taking.set_defaults(run=_what_it_takes)


def _budget(options: argparse.Namespace) -> None:
    given = [value for value in (options.mb, options.ms, options.kl) if value is not None]
    if not given or not all(0 < value < 1e9 for value in given):
        raise ValueError("Give a budget, by --mb, --ms or --kl: each a number above 0.")
    bench = open_model(options)
    prepare(bench, [Recipe(sparsity=0.5)])
    found: list[trade.Trade] = []
    for share in trade.trades(bench, cache_folder() / "budget"):
        if isinstance(share, list):
            found = share
        else:
            tell_share("Measuring what each matrix does, once", share)
    print(file=sys.stderr)
    limits = budget.Limits(size=options.mb and options.mb * 1e6, ms=options.ms, kl=options.kl)
    rest = 0.0
    if options.ms:
        found, rest = budget.as_now(bench, found)
    choice = budget.choose(bench, found, limits, rest=rest, level=options.level)
    _built(bench, "chosen", choice, options)
    if choice.runner_up:
        _built(bench, "one width for all", choice.runner_up, options)


def _built(bench: Workbench, name: str, choice: budget.Choice, options: argparse.Namespace) -> None:
    """Make it, measure it, and print that beside what was expected."""
    build(bench, choice.recipe)
    record = bench.record(bench.variant(choice.recipe))
    for judged in bench.evaluate(choice.recipe, options.tokens):
        record = bench.record(bench.variant(choice.recipe), quality=judged)
    if options.ms:
        for _, timed in bench.time(choice.recipe):
            record = bench.record(bench.variant(choice.recipe), speed=timed)
    assert record.quality
    words = arguments_of(choice.recipe)
    if options.json:
        told = {"predicted_bytes": choice.size.value, "predicted_kl": choice.kl.value}
        told |= {"predicted_ms": choice.ms.value} if options.ms else {}
        print(json.dumps({"name": name} | told | {"measured": record.to_dict(), "arguments": words}), flush=True)
        return
    file, kl = record.size.file_bytes.value / 1e6, record.quality.kl
    time = ""
    if record.speed:
        time = f"   {record.speed.ms_per_token.value:.1f} ms/token measured, {choice.ms.value:.1f} expected"
    print(f"{name}: {choice.recipe.words()}")
    print(f"  {file:.2f} MB   KL {kl.value:.4f} nats measured on {kl.n:,} tokens, {choice.kl.value:.4f} expected{time}")
    print(f"  python -m explorer export {words} --out FOLDER", flush=True)


def _sweep(options: argparse.Namespace) -> None:
    recipes = recipes_of(options)
    if options.search < 0 or options.rounds < 0 or options.tokens < 1:
        raise ValueError("--search and --rounds must be 0 or more, --tokens at least 1.")
    if options.search and len(recipes) < 2:
        raise ValueError("A search needs settings to choose from: give several values of at least one.")
    table = sweep.Table(options.out)
    bench = open_model(options)
    prepare(bench, recipes)
    try:
        steps = sweep.run(bench, table, recipes, tokens=options.tokens, rounds=options.rounds, search=options.search)
        for step in steps:
            if step.row is None:
                tell_share(f"{step.done + 1} of {step.total}, {step.recipe.words()}", step.share)
            else:
                print(_line(step), flush=True)
    finally:
        if options.csv:
            options.csv.write_text(csv_of(table.rows.values(), {}), encoding="utf-8")


def _line(step: sweep.Step) -> str:
    row, place = step.row or {}, f"{step.done:4} of {step.total}"
    if "problem" in row:
        return f"\r{place}  {row['problem']}"
    speed = row.get("speed")
    time = f"{speed['ms_per_token']['median']:7.1f} ms/token" if speed else ""
    size, kl = row["size"]["file_bytes"] / 1e6, row["quality"]["kl"]
    return f"\r{place} {size:8.2f} MB   KL {kl if kl is not None else math.nan:.4f}{time}   {step.recipe.words()}"


def _what_it_takes(options: argparse.Namespace) -> None:
    name, architecture, entry = catalogue.named(options.name)
    found = requirements.what_it_takes(
        name,
        architecture,
        tokens=entry.tokens if entry else None,
        context=options.context,
        batch=options.batch,
        bits=options.bits,
    )
    if options.json:
        print(json.dumps(found.to_dict()))
        return
    best, gigabytes = found.best, {bits: reading.value / 1e9 for bits, reading in found.weights.items()}
    cost = {field.name: getattr(best.costs, field.name).value for field in fields(best.costs)}
    lines = [
        f"{name}: {found.parameters.value / 1e9:.3f} billion parameters, all figures calculated",
        "  weights     " + "   ".join(f"{bits} bits {size:.2f} GB" for bits, size in gigabytes.items()),
        f"  beside them {found.cache_bytes.value / 1e9:.2f} GB of KV cache at {found.context:,} tokens × {found.batch},"
        f" {found.activation_bytes.value / 1e9:.2f} GB of activations",
        f"  runs on     {best.count.value:.0f} × {best.gpu.name} at {found.bits} bits: at best"
        f" {found.ms_per_token.value:.2f} ms/token, prefill {found.prefill_ms.value:.0f} ms"
        f"   {found.flops_per_token.value / 1e9:.2f} GFLOP a token at that length",
        f"  per million tokens   {best.usd_per_million.value:.2f} USD in use   {best.kwh_per_million.value:.3f} kWh"
        f"   {found.co2_g_per_million.value:.0f} g CO₂",
        "  per month   "
        + "   ".join(f"{word} {value:,.0f}" for word, value in cost.items())
        + f"   together {best.costs.total.value:,.0f} USD: {best.all_usd_per_million.value:,.2f} for a million tokens",
    ]
    if found.training:
        lines.append(
            f"  training    {found.training.flop.value:.2e} FLOP on {found.training.tokens.value:.2e} tokens,"
            f" {found.training.gpu_hours.value:,.0f} GPU hours, {found.training.usd.value:,.0f} USD"
        )
    print("\n".join(lines))
