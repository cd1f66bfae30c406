"""What the commands share: options of a model and of recipes; opening, calibrating, building, and saying how far."""

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch

from explorer import __version__, assets
from explorer.measure.machine import processor
from explorer.model.places import DEFAULT
from explorer.values.ranges import BEST, BITS, CHOICES, KINDS, RANGES
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
RANGE_HELP = {
    "sparsity": "share of zeros",
    "keep": "share of parameters kept in two thin factors",
    "depth": "share of blocks taken out",
    "width": "share of the MLP's channels taken out",
    "heads": "share of the attention's groups of heads taken out",
    "residual_rank": "rank of two factors that mend what was lost",
    "heal": "steps of training by knowledge distillation from the original",
    "heal_rate": "its learning rate, as a multiple of the usual one",
    "heal_seed": "its order of texts",
}


_told: "WeakKeyDictionary[Any, str]" = WeakKeyDictionary()  # the last words on each stream


def about() -> str:
    """Program, torch and processor, with what it can do."""
    capability = torch.backends.cpu.get_cpu_capability()
    return f"size-explorer {__version__}, torch {torch.__version__}, {processor()} ({capability})"


def model_options() -> argparse.ArgumentParser:
    """Which model, and where it runs."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--model", default=DEFAULT, help="Hub name, local folder or .gguf file")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    return parser


def recipe_options() -> argparse.ArgumentParser:
    """Every field of a recipe as an option; several values of one make several recipes."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--level", default="live", choices=("live", "best"), help="best: sparsegpt and gptq by default")
    plain = Recipe()
    for name, range_ in RANGES.items():
        what = f"{RANGE_HELP[name]}, {range_.low:g} to {range_.high:g}"
        parser.add_argument(option(name), type=float, nargs="+", default=[getattr(plain, name)], help=what)
    for name in ("bits", "head_bits"):
        what = "of the embedding and the head" if name == "head_bits" else f"of a weight, one of {BITS}"
        parser.add_argument(option(name), type=int, nargs="+", default=[16], help=f"bits {what}")
    for name, choices in CHOICES.items():
        what = " | ".join(choices)
        parser.add_argument(option(name), nargs="+", help=f"{what} (default: {getattr(plain, name)})")
    parser.add_argument("--double", action="store_true", help="scales of nf4 and fp4 in 8 bits")
    parser.add_argument("--rotate", action="store_true", help="turn hidden states first, for 3 bits and fewer")
    parser.add_argument("--layer", action="append", default=[], help="an exception: NAME=bits:4,sparsity:0.5")
    parser.add_argument("--protect", action="append", default=[], help=f"left as it is: {', '.join(KINDS)} or a name")
    return parser


def option(name: str) -> str:
    return f"--{name}".replace("_", "-")


def recipes_of(options: argparse.Namespace) -> list[Recipe]:
    names = [*RANGES, "bits", "head_bits", *CHOICES]
    defaults = {**{n: getattr(Recipe(), n) for n in CHOICES}, **(BEST if options.level == "best" else {})}
    values = [getattr(options, name) or [defaults[name]] for name in names]
    fixed = {"double": options.double, "rotate": options.rotate, "layers": options.layer, "protect": options.protect}
    recipes = [Recipe(**dict(zip(names, each, strict=True)), **fixed) for each in product(*values)]
    return list(dict.fromkeys(recipes))


def device(name: str) -> str:
    """`auto` is CUDA where torch sees it."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch sees no CUDA device on this machine; use --device cpu.")
    return name


def open_model(options: argparse.Namespace) -> Workbench:
    """The model on the project's own texts, or on a file's passages where the command has `--text`."""
    file: Path | None = getattr(options, "text", None)
    texts = {file.stem: assets.split_passages(read_text(file))} if file else None
    workbench = Workbench(options.model, device(options.device), texts).load(tell)
    if not workbench.passages:
        raise ValueError("The evaluation text is too short: it needs at least two tokens.")
    return workbench


def tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def tell_share(what: str, share: float) -> None:
    """How far something is, in place; said once for each whole per cent."""
    words = f"\r{what}: {share:4.0%}"
    if words != _told.get(sys.stderr):
        _told[sys.stderr] = words
        print(words, end="", file=sys.stderr, flush=True)


def prepare(workbench: Workbench, recipes: Sequence[Recipe]) -> None:
    """Calibrate where a method asks for it, once for each model, with progress."""
    if not all(recipe.data_free for recipe in recipes):
        for share in workbench.prepare():
            tell_share("Calibrating and preparing, once", share)
        print(file=sys.stderr)


def build(workbench: Workbench, recipe: Recipe) -> None:
    """Make the recipe's model, with progress where it takes long."""
    if recipe.slow:
        for share in workbench.apply(recipe):
            tell_share(recipe.words(), share)
        print(file=sys.stderr)


def read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{file.name} is not a UTF-8 text file.") from None
