"""Commands that help to choose: what a model of any size takes."""

import argparse
import json
from dataclasses import fields

from explorer import catalogue, takes
from explorer.commands.options import Commands


def add(commands: Commands, model: argparse.ArgumentParser, recipe: argparse.ArgumentParser) -> None:
    """`what-it-takes`."""
    taking = commands.add_parser("what-it-takes", help="what any model needs, calculated without its weights")
    taking.add_argument("name", metavar="MODEL_OR_CONFIG", help="a name of the catalogue, a config.json or its folder")
    taking.add_argument("--context", type=int, help="tokens kept in the KV cache (default: the model's, at most 4096)")
    taking.add_argument("--batch", type=int, default=1, help="texts at once")
    taking.add_argument("--bits", type=int, default=16, help=f"of a weight, one of {takes.BITS}")
    taking.add_argument("--json", action="store_true")
    taking.set_defaults(run=_what_it_takes)


def _what_it_takes(options: argparse.Namespace) -> None:
    name, architecture, entry = catalogue.named(options.name)
    found = takes.what_it_takes(
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
        f"   {found.flops_per_token.value / 1e9:.2f} GFLOP per token",
        f"  per million tokens   {best.usd_per_million.value:.2f} USD   {best.kwh_per_million.value:.3f} kWh"
        f"   {found.co2_g_per_million.value:.0f} g CO₂",
        "  per month   " + "   ".join(f"{word} {value:,.0f} USD" for word, value in cost.items()),
    ]
    if found.training:
        lines.append(
            f"  training    {found.training.flop.value:.2e} FLOP on {found.training.tokens.value:.2e} tokens,"
            f" {found.training.gpu_hours.value:,.0f} GPU hours, {found.training.usd.value:,.0f} USD"
        )
    print("\n".join(lines))
