"""The command line. The only place here that prints."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import product
from pathlib import Path

import torch

from explorer import assets, bench, catalogue, takes
from explorer.measure import repetition
from explorer.model import export, hub
from explorer.model.generate import context_length, encode_prompt, stream
from explorer.model.preflight import ModelRejected
from explorer.recipe import BEST, BITS, CHOICES, KINDS, RANGES, Recipe
from explorer.records import Collapse, LayerReading, Measurement, Piece
from explorer.workbench import Prompt, Workbench

RANGE_HELP = {
    "sparsity": "share of zeros",
    "keep": "share of parameters kept in two thin factors",
    "depth": "share of blocks taken out",
    "width": "share of the MLP's channels taken out",
    "heads": "share of the attention's groups of heads taken out",
    "residual_rank": "rank of two factors that mend what was lost",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 with one plain sentence on standard error."""
    options = _parser().parse_args(arguments)
    try:
        _COMMANDS[options.command](options)
    except (ModelRejected, ValueError, OSError) as problem:
        print(f"explorer: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("explorer: stopped.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m explorer", description="Compress a language model and measure it.")
    commands = parser.add_subparsers(dest="command", required=True)
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", default=hub.DEFAULT, help="Hub name, local folder or .gguf file")
    model.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    recipe = _recipe_options()

    measure = commands.add_parser("measure", parents=[model, recipe], help="one record a recipe (every combination)")
    measure.add_argument("--json", action="store_true", help="one JSON object a line")
    measure.add_argument("--text", type=Path, help="your own evaluation text (UTF-8; lines of --- part passages)")
    measure.add_argument("--tokens", type=int, default=2048, help="evaluation tokens, 0 = all (default 2048)")
    measure.add_argument("--rounds", type=int, default=5, help="timing rounds, original and compressed in turns")

    generate = commands.add_parser(
        "generate", parents=[model, recipe], help="write with the original and the compressed"
    )
    generate.add_argument("--prompt", required=True)
    generate.add_argument("--tokens", type=int, default=64)
    generate.add_argument("--seed", type=int, default=0)
    generate.add_argument("--temperature", type=float, default=0.0)
    generate.add_argument("--raw", action="store_true", help="no chat template")
    generate.add_argument("--json", action="store_true")

    exporting = commands.add_parser("export", parents=[model, recipe], help="write a folder with packed tensors")
    exporting.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")

    by_layer = commands.add_parser("layers", parents=[model, recipe], help="each compressed matrix by itself")
    by_layer.add_argument("--json", action="store_true", help="one JSON object a matrix")

    collapsing = commands.add_parser("repetition", parents=[model, recipe], help="how many of 24 texts fall apart")
    collapsing.add_argument("--tokens", type=int, default=64, help="tokens of each text")

    taking = commands.add_parser("what-it-takes", help="what any model needs, calculated without its weights")
    taking.add_argument("name", metavar="MODEL_OR_CONFIG", help="a name of the catalogue, a config.json or its folder")
    taking.add_argument("--context", type=int, help="tokens kept in the KV cache (default: the model's, at most 4096)")
    taking.add_argument("--batch", type=int, default=1, help="texts at once")
    taking.add_argument("--bits", type=int, default=16, help=f"of a weight, one of {takes.BITS}")
    taking.add_argument("--json", action="store_true")

    measuring = commands.add_parser("bench", parents=[model], help="how fast this program is here, as JSON")
    measuring.add_argument("--text", type=Path, help="text for the distances; the project's own by default")
    measuring.add_argument("--peers", type=Path, metavar="GGUF", help="a GGUF of the same weights, for llama.cpp")
    measuring.add_argument("--out", type=Path, help="also write the JSON to this file")
    return parser


def device(name: str) -> str:
    """`auto` is CUDA where torch sees it."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch sees no CUDA device on this machine; use --device cpu.")
    return name


def _recipe_options() -> argparse.ArgumentParser:
    """Every field of a recipe as an option; several values of one make several recipes."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--level", default="live", choices=("live", "best"), help="best: sparsegpt and gptq by default")
    plain = Recipe()
    for name, range_ in RANGES.items():
        what = f"{RANGE_HELP[name]}, {range_.low:g} to {range_.high:g}"
        parser.add_argument(_option(name), type=float, nargs="+", default=[getattr(plain, name)], help=what)
    for name in ("bits", "head_bits"):
        what = "of the embedding and the head" if name == "head_bits" else f"of a weight, one of {BITS}"
        parser.add_argument(_option(name), type=int, nargs="+", default=[16], help=f"bits {what}")
    for name, choices in CHOICES.items():
        what = " | ".join(choices)
        parser.add_argument(_option(name), nargs="+", help=f"{what} (default: {getattr(plain, name)})")
    parser.add_argument("--double", action="store_true", help="scales of nf4 and fp4 in 8 bits")
    parser.add_argument("--layer", action="append", default=[], help="an exception: NAME=bits:4,sparsity:0.5")
    parser.add_argument("--protect", action="append", default=[], help=f"left as it is: {', '.join(KINDS)} or a name")
    return parser


def _option(name: str) -> str:
    return f"--{name}".replace("_", "-")


def _recipes(options: argparse.Namespace) -> list[Recipe]:
    names = [*RANGES, "bits", "head_bits", *CHOICES]
    defaults = {**{n: getattr(Recipe(), n) for n in CHOICES}, **(BEST if options.level == "best" else {})}
    values = [getattr(options, name) or [defaults[name]] for name in names]
    fixed = {"double": options.double, "layers": options.layer, "protect": options.protect}
    recipes = [Recipe(**dict(zip(names, each, strict=True)), **fixed) for each in product(*values)]
    return list(dict.fromkeys(recipes))


def _open(options: argparse.Namespace, texts: dict[str, list[str]] | None = None) -> Workbench:
    return Workbench(options.model, device(options.device), texts).load(_tell)


def _tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _prepare(workbench: Workbench, recipes: Sequence[Recipe]) -> None:
    """Calibrate where a method asks for it, once for each model; then build, with progress where it takes long."""
    if not all(recipe.data_free for recipe in recipes):
        for share in workbench.prepare():
            print(f"\rCalibrating and preparing, once: {share:4.0%}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)


def _build(workbench: Workbench, recipe: Recipe) -> None:
    """Make the recipe's model, with progress where it takes long."""
    if recipe.slow:
        for share in workbench.apply(recipe):
            print(f"\r{recipe.words()}: {share:4.0%}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)


def _measure(options: argparse.Namespace) -> None:
    recipes = _recipes(options)
    texts = None
    if options.text:
        texts = {options.text.stem: assets.split_passages(_read_text(options.text))}
    if options.tokens < 0 or options.rounds < 1:
        raise ValueError("--tokens must be 0 or more, --rounds at least 1.")
    workbench = _open(options, texts)
    if not workbench.passages:
        raise ValueError("The evaluation text is too short: it needs at least two tokens.")
    _prepare(workbench, recipes)
    for recipe in recipes:
        _build(workbench, recipe)
        record = workbench.measure(recipe, tokens=options.tokens or 10**9, rounds=options.rounds)
        print(json.dumps(record.to_dict()) if options.json else _table(record), flush=True)


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{file.name} is not a UTF-8 text file.") from None


def _table(record: Measurement) -> str:
    size, speed, quality = record.size, record.speed, record.quality
    assert speed and quality and size.resident_bytes
    token, prefill = speed.ms_per_token, speed.prefill_ms
    lines = [
        f"{record.model}: {record.recipe.words()}",
        f"  file        {size.file_bytes.value / 1e6:8.2f} MB   {size.compression_ratio.value:.2f}× smaller"
        f"   in memory {size.resident_bytes.value / 1e6:.1f} MB   {size.parameters.value / 1e6:.1f} M weights kept",
        f"  decode      {token.value:8.1f} ms/token ({token.low:.1f}–{token.high:.1f}, n = {token.n})"
        f"   {speed.tokens_per_second.value:.1f} tokens/s   kernel {speed.kernel}",
        f"  prefill     {prefill.value:8.1f} ms, {speed.prompt_tokens} tokens ({prefill.low:.1f}–{prefill.high:.1f})",
        f"  quality     KL {quality.kl.value:.4f} nats   perplexity {quality.perplexity.value:.2f}"
        f" (original {quality.perplexity_original.value:.2f})   same top word {quality.top1_agreement.value:.1%}"
        f"   {quality.tokens:,} tokens",
        f"  cost        {record.cost.flops_per_token.value / 1e9:8.3f} GFLOP per token",
    ]
    return "\n".join(lines + [f"  note        {note}" for note in size.notes])


def _generate(options: argparse.Namespace) -> None:
    folder = Path(options.model)
    prompt = Prompt(
        text=options.prompt,
        new_tokens=options.tokens,
        seed=options.seed,
        temperature=options.temperature,
        chat=not options.raw,
    )
    if folder.is_dir() and export.is_export(folder):
        model, tokenizer, recipe = export.read(folder)
        ids = encode_prompt(tokenizer, prompt.text, chat=prompt.chat, limit=min(context_length(model) - 1, 2048))
        pieces = stream(
            model,
            tokenizer,
            ids,
            new_tokens=prompt.new_tokens,
            seed=prompt.seed,
            temperature=prompt.temperature,
        )
        texts = {recipe.words(): [piece.text for piece in pieces][-1:]}
    else:
        recipes = _recipes(options)
        workbench = _open(options)
        _prepare(workbench, recipes)
        texts = {"original": [piece.text for piece in workbench.write(None, prompt)][-1:]}
        for recipe in recipes:
            if recipe != Recipe():
                texts[recipe.words()] = [piece.text for piece in workbench.write(recipe, prompt)][-1:]
    if options.json:
        print(json.dumps({words: "".join(text) for words, text in texts.items()}))
        return
    for words, text in texts.items():
        print(f"--- {words}\n{''.join(text) or '(the model ended at once)'}")


def _export(options: argparse.Namespace) -> None:
    recipes = _recipes(options)
    if len(recipes) != 1:
        raise ValueError("export writes one recipe: give one value for each setting.")
    if options.out.exists():
        raise ValueError(f"{options.out} exists already; choose another name, nothing is overwritten.")
    workbench = _open(options)
    _prepare(workbench, recipes)
    workbench.measure(recipes[0], tokens=1024, rounds=3)
    written = workbench.export(recipes[0], options.out)
    print(f"{options.out}: {written / 1e6:.2f} MB of tensors, read back and equal to what was measured.")


def _layers(options: argparse.Namespace) -> None:
    recipes = _recipes(options)
    if len(recipes) != 1 or recipes[0] == Recipe():
        raise ValueError("layers looks at one recipe: give one value for each setting, and at least one setting.")
    workbench = _open(options)
    _prepare(workbench, recipes)
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
    recipes = _recipes(options)
    workbench = _open(options)
    _prepare(workbench, recipes)
    for recipe in recipes:
        _build(workbench, recipe)

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


def _bench(options: argparse.Namespace) -> None:
    texts = {options.text.stem: [_read_text(options.text)]} if options.text else None
    result = json.dumps(bench.run(_open(options, texts), _tell, options.peers), indent=2)
    if options.out:
        options.out.write_text(result + "\n", encoding="utf-8")
    print(result)


_COMMANDS = {
    "measure": _measure,
    "generate": _generate,
    "export": _export,
    "layers": _layers,
    "repetition": _repetition,
    "what-it-takes": _what_it_takes,
    "bench": _bench,
}

if __name__ == "__main__":
    raise SystemExit(main())
