"""The command that heals: its curve, and how far the model is from the original before and after, on text that nothing
was learned from; with `--control` also after the same steps of the plain next-token loss."""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from explorer.commands.options import Commands, open_model, prepare, recipes_of, tell_share
from explorer.measure import quality, size
from explorer.model.compressing import Built
from explorer.values.progress import HealStep
from explorer.values.reading import Reading
from explorer.workbench.workbench import Workbench


def add(commands: Commands, model: argparse.ArgumentParser, recipe: argparse.ArgumentParser) -> None:
    """`heal`."""
    healing = commands.add_parser("heal", parents=[model, recipe], help="train a setting to imitate the original")
    healing.add_argument("--steps", type=int, default=150, help="steps of training (default 150)")
    healing.add_argument("--control", action="store_true", help="also train by the plain next-token loss, to compare")
    healing.add_argument("--text", type=Path, help="your own evaluation text (UTF-8; lines of --- part passages)")
    healing.add_argument("--tokens", type=int, default=2048, help="evaluation tokens (default 2048)")
    healing.add_argument("--json", action="store_true")
    healing.set_defaults(run=_heal)


def _heal(options: argparse.Namespace) -> None:
    recipes = list(dict.fromkeys(replace(recipe, heal=options.steps) for recipe in recipes_of(options)))
    if len(recipes) != 1 or not recipes[0].heal:
        raise ValueError(
            "heal takes one recipe: one value for each setting, at least one setting, and --steps above 0."
        )
    recipe = recipes[0]
    workbench = open_model(options)
    prepare(workbench, recipes)
    original = workbench.engine.step(
        lambda: quality.References(workbench.loaded.model, workbench.passages, options.tokens)
    )
    started = time.perf_counter()
    curve: tuple[HealStep, ...] | None = None
    with _until_interrupted() as stopped:
        for share in workbench.apply(recipe, stopped):
            curve = workbench.variants.curves.get(recipe)
            if curve:
                _say(curve[-1])
            else:
                tell_share("Compressing, and reading the teacher's lessons (written once for each model)", share)
        if stopped():
            recipe = replace(recipe, heal=curve[-1].step if curve else 0)
    seconds = time.perf_counter() - started
    built = {"before": workbench.variants.unsettled(replace(recipe, heal=0))}
    built["after"] = workbench.variants.unsettled(recipe)
    if options.control:
        built["control"] = _control(workbench, recipe)
    kl = {word: workbench.engine.step(partial(original.kl, one.model)) for word, one in built.items()}
    record = {
        "recipe": recipe.to_dict(),
        "model": workbench.name,
        "file_bytes": {word: size.stored_bytes(one.model) for word, one in built.items()},
        "kl": {word: vars(reading) for word, reading in kl.items()},
        "closed": {word: 1 - kl[word].value / kl["before"].value for word in kl if word != "before"},
        "curve": [step.to_dict() for step in built["after"].curve],
        "control": [step.to_dict() for step in built["control"].curve] if options.control else None,
        "seconds": seconds,
    }
    print(json.dumps(record) if options.json else _table(recipe.words(), record, kl, built["after"].curve))


@contextmanager
def _until_interrupted() -> Iterator[Callable[[], bool]]:
    """Ctrl+C asks to stop, and what was reached is kept; a second one ends the program."""
    asked, before = Event(), signal.getsignal(signal.SIGINT)

    def ask(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        asked.set()
        print("\nStopping after this step; what was reached is kept.", file=sys.stderr)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def _control(workbench: Workbench, recipe: Any) -> Built:
    steps: Iterator[float | Built] = workbench.variants.control(recipe)
    while not isinstance(found := next(steps), Built):
        print(f"\rControl run: {found:4.0%}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def _say(step: HealStep) -> None:
    left = "" if step.step == 0 else f", {step.seconds_left.value:.0f} s left"
    words = f"\r\033[KStep {step.step} of {step.steps}: held-out KL {step.kl.value:.4f}{left}    "
    print(words, end="\n" if step.step == step.steps else "", file=sys.stderr, flush=True)


def _table(words: str, record: dict[str, Any], kl: dict[str, Reading], curve: Sequence[HealStep]) -> str:
    lines = [words]
    for word, reading in kl.items():
        closed = "" if word == "before" else f"   {record['closed'][word]:.0%} of the gap closed"
        spread = "" if reading.low is None else f" ({reading.low:.4f}–{reading.high:.4f})"
        megabytes = record["file_bytes"][word] / 1e6
        lines.append(f"  {word:8}  KL {reading.value:.4f} nats{spread}   {megabytes:.2f} MB{closed}")
    looks = [step for last, step in zip((None, *curve), curve, strict=False) if last is None or step.kl != last.kl]
    lines.append("  held out  " + "   ".join(f"{step.step}: {step.kl.value:.4f}" for step in looks))
    if curve:
        lines.append(f"  took      {curve[-1].seconds.value:.0f} s of training on {curve[-1].tokens.value:,.0f} tokens")
    return "\n".join(lines)
