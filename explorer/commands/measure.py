"""Commands that measure: one record a recipe, each matrix by itself, and how many texts fall apart."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from explorer.commands.options import Commands, build, open_model, prepare, recipes_of, tell_share
from explorer.measure import repetition
from explorer.measure.speed import PROMPT_TOKENS
from explorer.studies.rival import Rivalry
from explorer.values.contest import Contest
from explorer.values.matrices import LayerReading
from explorer.values.measurement import Measurement
from explorer.values.prompt import Prompt
from explorer.values.questions import Questions
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.values.written import Collapse, Piece
from explorer.workbench.workbench import COST_CONTEXT, Workbench

SAID = {"file_bytes": "bytes", "ms_per_token": "time per token", "flops_per_token": "FLOPs per token"}


def add(commands: Commands, model: argparse.ArgumentParser, recipe: argparse.ArgumentParser) -> None:
    """`measure`, `layers`, `repetition`."""
    measure = commands.add_parser("measure", parents=[model, recipe], help="one record a recipe (every combination)")
    measure.add_argument("--json", action="store_true", help="one JSON object a line")
    measure.add_argument("--text", type=Path, help="your own evaluation text (UTF-8; lines of --- part passages)")
    measure.add_argument("--tokens", type=int, default=2048, help="evaluation tokens, 0 = all (default 2048)")
    measure.add_argument("--rounds", type=int, default=5, help="timing rounds, original and compressed in turns")
    measure.add_argument("--prompt-tokens", type=int, default=PROMPT_TOKENS, help="tokens of the timed prompt")
    measure.add_argument("--batch", type=int, default=1, help="texts that are timed at once")
    measure.add_argument("--rival", metavar="MODEL", help="a second model to meet: Hub name, folder, export or .gguf")
    measure.set_defaults(run=_measure)

    by_layer = commands.add_parser("layers", parents=[model, recipe], help="each compressed matrix by itself")
    by_layer.add_argument("--json", action="store_true", help="one JSON object a matrix")
    by_layer.set_defaults(run=_layers)

    collapsing = commands.add_parser("repetition", parents=[model, recipe], help="how many of 24 texts fall apart")
    collapsing.add_argument("--tokens", type=int, default=64, help="tokens of each text")
    collapsing.set_defaults(run=_repetition)


def _measure(options: argparse.Namespace) -> None:
    recipes = recipes_of(options)
    if options.tokens < 0 or options.rounds < 1:
        raise ValueError("--tokens must be 0 or more, --rounds at least 1.")
    if min(options.prompt_tokens, options.batch) < 1:
        raise ValueError("--prompt-tokens and --batch must be at least 1.")
    long = {"prompt_tokens": options.prompt_tokens, "batch": options.batch}
    workbench = open_model(options)
    prepare(workbench, recipes)
    for note in workbench.notes():
        print(f"note: {note}", file=sys.stderr)
    for recipe in recipes:
        build(workbench, recipe)
        record = workbench.measure(recipe, tokens=options.tokens or 10**9, rounds=options.rounds, **long)
        print(json.dumps(record.to_dict()) if options.json else _table(record), flush=True)
    if options.rival:
        _meet(workbench, recipes, options)


def _meet(workbench: Workbench, recipes: list[Recipe], options: argparse.Namespace) -> None:
    rivalry = Rivalry(workbench)
    rivalry.open(options.rival)
    for found in rivalry.meet(recipes, options.tokens or 10**9, options.rounds):
        if isinstance(found, Contest):
            print(file=sys.stderr)
            print(json.dumps(found.to_dict()) if options.json else "\n".join(_contest(found)), flush=True)
        else:
            tell_share("Meeting the rival", found)


def _contest(found: Contest) -> Iterator[str]:
    yield f"against {found.rival.name}, on {found.count:,} bytes of text"
    for one in (found.rival, *found.ours):
        bits, apart = one.bits_per_byte, ""
        if one.difference and one.difference.low is not None:
            d = one.difference
            apart = f"   {d.value:+.4f} ({d.low:+.4f} to {d.high:+.4f}) from the rival's"
        yield (
            f"  {bits.value:.4f} bits per byte   {one.file_bytes.value / 1e6:8.2f} MB"
            f"   {one.ms_per_token.value:6.1f} ms/token   {one.flops_per_token.value / 1e9:.3f} GFLOP"
            f"   {one.name}{apart}"
        )
    for match in found.matches:
        best = f": {match.best.name}" if match.best else ""
        yield f"  at no more {SAID[match.budget]} than it, ours: {match.verdict}{best}"
    if found.note:
        yield f"  note        {found.note}"


def _table(record: Measurement) -> str:
    size, speed, quality = record.size, record.speed, record.quality
    assert speed and quality and record.questions and size.resident_bytes
    token, prefill = speed.ms_per_token, speed.prefill_ms
    lines = [
        f"{record.model}: {record.recipe.words()}",
        f"  file        {size.file_bytes.value / 1e6:8.2f} MB   {size.compression_ratio.value:.2f}× smaller"
        f"   in memory {size.resident_bytes.value / 1e6:.1f} MB   {size.parameters.value / 1e6:.1f} M weights kept",
        f"  decode      {token.value:8.1f} ms/token ({token.low:.1f}–{token.high:.1f}, n = {token.n})"
        f"   {speed.tokens_per_second.value:.1f} tokens/s   {_ratio(speed.decode_ratio)}",
        f"  prefill     {prefill.value:8.1f} ms ({prefill.low:.1f}–{prefill.high:.1f}), {speed.prompt_tokens} tokens"
        f" × {speed.batch}   {_ratio(speed.prefill_ratio)}",
        f"  timed on    {speed.processor}, {speed.threads} threads, {speed.dtype}, kernel {speed.kernel}"
        f"{', which was busy: times differ by more than 25 %' if speed.busy else ''}",
        f"  quality     KL {quality.kl.value:.4f} nats   perplexity {quality.perplexity.value:.2f}"
        f" (original {quality.perplexity_original.value:.2f})   same top word {quality.top1_agreement.value:.1%}"
        f"   {quality.tokens:,} tokens",
        f"  questions   {_questions(record.questions)}",
        f"  cost        {record.cost.flops_per_token.value / 1e9:8.3f} GFLOP for token {COST_CONTEXT + 1}",
    ]
    if size.active_parameters and size.active_bytes:
        lines.append(
            f"  experts     a token meets {size.active_parameters.value / 1e6:.1f} M weights, "
            f"{size.active_bytes.value / 1e6:.1f} MB of the file"
        )
    return "\n".join(lines + [f"  note        {note}" for note in size.notes])


def _questions(found: Questions) -> str:
    """How many are still right, and which way they flipped."""
    whole = found.whole
    return (
        f"{whole.right.value:.0f} of {whole.asked} easy ones right (original {whole.right_original.value:.0f}, guessing"
        f" {found.chance:.0f}): {found.verdict}   {whole.lost} lost, {whole.gained} gained, McNemar p = {found.p:.2g}"
    )


def _ratio(ratio: Reading | None) -> str:
    if ratio is None:
        return ""
    ends = f" (95 %: {ratio.low:.2f} to {ratio.high:.2f})" if ratio.low is not None else ""
    return f"{ratio.value:.2f}× the original's speed{ends}"


def _layers(options: argparse.Namespace) -> None:
    recipes = recipes_of(options)
    if len(recipes) != 1 or recipes[0] == Recipe():
        raise ValueError("layers looks at one recipe: give one value for each setting, and at least one setting.")
    workbench = open_model(options)
    prepare(workbench, recipes)
    rows: list[LayerReading] = []
    for rows in workbench.layers(recipes[0]):
        print(f"\r{len(rows)} matrices", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for row in rows:
        if options.json:
            print(json.dumps(row.to_dict()))
            continue
        shape = f"{row.shape[0]}×{row.shape[1]}" + (f", rank {row.rank}" if row.rank else "")
        print(
            f"{row.name:44} {shape:>22} {row.bits:2} bits {row.zeros.value:6.1%} zeros "
            f"{row.file_bytes.value / 1e3:9.1f} kB  error {row.output_error.value:7.4f}  KL alone {row.kl.value:.5f}"
        )


def _repetition(options: argparse.Namespace) -> None:
    recipes = recipes_of(options)
    workbench = open_model(options)
    prepare(workbench, recipes)
    for recipe in recipes:
        build(workbench, recipe)

        def write(text: str, recipe: Recipe = recipe) -> Iterator[Piece]:
            return workbench.write(recipe, Prompt(text=text, new_tokens=options.tokens))

        found: Collapse | None = None
        for found in repetition.collapse(write):
            print(f"\r{len(found.texts)} texts", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        assert found
        for one in found.texts:
            print(f"{one.collapsed or 'reads':12} {one.repeated.value:6.1%} repeated   {one.prompt!r} → {one.text!r}")
        bad, n = found.collapsed, len(found.texts)
        print(f"{recipe.words()}: {round(bad.value * n)} of {n} texts fell apart ({bad.low:.0%} to {bad.high:.0%})")
