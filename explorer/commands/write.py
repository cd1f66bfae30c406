"""Commands that write: text of the original and the compressed model, and a setting in formats of other programs."""

import argparse
import json
import signal
import sys
from pathlib import Path

from explorer.commands.options import Commands, open_model, prepare, recipes_of, tell, tell_share
from explorer.formats.catalogue import FORMATS, formats
from explorer.formats.export import Job, export, judged
from explorer.formats.gguf_mixed import mix_of
from explorer.model import exporting
from explorer.model.writing import prompt_ids, stream
from explorer.values.departure import Departure
from explorer.values.prompt import Prompt
from explorer.values.recipe import Recipe


def add(commands: Commands, model: argparse.ArgumentParser, recipe: argparse.ArgumentParser) -> None:
    """`generate`, `export`."""
    generate = commands.add_parser(
        "generate", parents=[model, recipe], help="write with the original and the compressed"
    )
    generate.add_argument("--prompt", required=True)
    generate.add_argument("--tokens", type=int, default=64)
    generate.add_argument("--seed", type=int, default=0)
    generate.add_argument("--temperature", type=float, default=0.0)
    generate.add_argument("--raw", action="store_true", help="no chat template")
    generate.add_argument("--json", action="store_true")
    generate.set_defaults(run=_generate)

    leave = commands.add_parser("export", parents=[model, recipe], help="write a setting in one or several formats")
    leave.add_argument(
        "--out", type=Path, help="a folder that does not exist yet; by default a name that says what it is"
    )
    leave.add_argument("--format", nargs="+", default=["explorer"], metavar="FORMAT", help=" | ".join(FORMATS))
    leave.add_argument("--no-check", dest="check", action="store_false", help="do not open again what was written")
    leave.add_argument("--check", action="store_true", default=True, help=argparse.SUPPRESS)
    leave.set_defaults(run=_export)


def _generate(options: argparse.Namespace) -> None:
    folder = Path(options.model)
    prompt = Prompt(
        text=options.prompt,
        new_tokens=options.tokens,
        seed=options.seed,
        temperature=options.temperature,
        chat=not options.raw,
    )
    if folder.is_dir() and exporting.is_export(folder):
        model, tokenizer, recipe = exporting.read(folder)
        ids = prompt_ids(model, tokenizer, prompt.text, chat=prompt.chat)
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
        recipes = recipes_of(options)
        workbench = open_model(options)
        prepare(workbench, recipes)
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
    mix, options.quant = mix_of(options.quant or [])
    recipes = recipes_of(options)
    if len(recipes) != 1:
        raise ValueError("export writes one recipe: give one value for each setting.")
    asked = judged(options.format, options.out, mix)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what ends it leaves nothing half written either
    workbench = open_model(options)
    prepare(workbench, recipes)
    offers = {offer.format: offer for offer in formats(workbench, recipes[0], mix)}
    for offer in (offers[name] for name in asked):
        if offer.problem:
            raise ValueError(offer.problem)
        assert offer.bytes is not None
        tell(f"{offer.format}: {offer.bytes.value:,.0f} bytes ({offer.bytes.how}), opened by {offer.opened_by}.")
        tell(f"  kept: {offer.keeps}." + (f" Otherwise: {offer.rounds}." if offer.rounds else ""))
    workbench.measure(recipes[0], tokens=1024, rounds=3)
    for departure in _made(export(workbench, recipes[0], asked, options.out, options.check, mix)):
        print(_told(departure))


def _made(job: Job) -> tuple[Departure, ...]:
    """What a job gives in the end; says meanwhile how far it is."""
    while True:
        try:
            at = next(job)
        except StopIteration as end:
            print(file=sys.stderr)
            found: tuple[Departure, ...] = end.value
            return found
        tell_share(at.words, at.share)


def _told(departure: Departure) -> str:
    """One format in a line."""
    check, offer = departure.check, departure.offer
    if check is None:
        told = f"{offer.bytes.value:,.0f} bytes" if offer.bytes else ""
        return f"{departure.folder}: {told}, not opened again by the program it is for."
    against = "what was not rounded" if offer.grid else "the variant"
    words = [f"{check.bytes.value:,.0f} bytes", f"KL to {against} {check.kl.value:.5f} nats"]
    words += [f"{check.greedy.value:.0f} of {check.greedy.n} greedy tokens the same"]
    if check.texts:
        words.append(f"{check.texts.value:.0f} of {check.texts.n} texts the same tokens")
    return f"{departure.folder}: {', '.join(words)}, opened by {check.opened_by}."
