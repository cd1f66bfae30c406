"""Commands that write: text of the original and the compressed model, and a folder with packed tensors."""

import argparse
import json
from pathlib import Path

from explorer.commands.options import Commands, open_model, prepare, recipes_of
from explorer.model import exporting
from explorer.model.writing import prompt_ids, stream
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

    export = commands.add_parser("export", parents=[model, recipe], help="write a folder with packed tensors")
    export.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    export.set_defaults(run=_export)


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
    recipes = recipes_of(options)
    if len(recipes) != 1:
        raise ValueError("export writes one recipe: give one value for each setting.")
    if options.out.exists():
        raise ValueError(f"{options.out} exists already; choose another name, nothing is overwritten.")
    workbench = open_model(options)
    prepare(workbench, recipes)
    workbench.measure(recipes[0], tokens=1024, rounds=3)
    written = workbench.export(recipes[0], options.out)
    print(f"{options.out}: {written / 1e6:.2f} MB of tensors, read back and equal to what was measured.")
