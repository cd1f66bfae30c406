"""One model of a type, through everything that the program does with models: opened, calibrated, made smaller in ten
ways, written with, exported and opened again."""

import multiprocessing
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM

from explorer.model import exporting
from explorer.model.decode import Continuation
from explorer.model.loaders import quiet
from explorer.model.preflight import ModelRejected
from explorer.model.writing import context_length
from explorer.values.prompt import Prompt
from explorer.values.recipe import Recipe
from explorer.workbench import preparing
from explorer.workbench.workbench import Workbench
from tests import families
from tests.conftest import TEXTS, byte_tokenizer

RECIPES = {
    "bits": Recipe(bits=4, head_bits=4),
    "zeros": Recipe(sparsity=0.5),
    "factors": Recipe(keep=0.6),
    "gptq": Recipe(bits=3, quant="gptq"),
    "sparsegpt": Recipe(sparsity=0.5, prune="sparsegpt"),
    "depth": Recipe(depth=0.3),
    "width": Recipe(width=0.25),
    "heads": Recipe(heads=0.5),
    "rotation": Recipe(bits=4, rotate=True),
    "all": Recipe(bits=8, sparsity=0.3, keep=0.7, depth=0.3),
}
STRUCTURAL = ("depth", "width", "heads", "rotation", "all")  # what a family may refuse


@dataclass
class Outcome:
    """What a type does: refused at opening in one sentence, or by part "works", a refusal, or what went wrong."""

    kind: str
    built: str = ""  # why it was not
    refused: str = ""
    parts: dict[str, str] = field(default_factory=dict)

    @property
    def faults(self) -> dict[str, str]:
        return {name: what for name, what in self.parts.items() if what.startswith("fault")}


def everything(kind: str, folder: Path, recipes: dict[str, Recipe] = RECIPES, tokens: int = 512) -> Outcome:
    """`folder` holds the model and its tokenizer."""
    outcome, part = Outcome(kind), partial(_part, parts := {})
    outcome.parts = parts
    try:
        bench = Workbench(str(folder), texts=TEXTS).load()
    except ModelRejected as refusal:
        outcome.refused = str(refusal)
        return outcome
    except Exception as fault:  # noqa: BLE001
        parts["open"] = _fault(fault)
        return outcome
    part("exact", lambda: _same_as_transformers(bench, folder))
    part("cache", lambda: _goes_on(bench.loaded.model))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparing, "tokens_for", lambda _: tokens)
        part("prepare", lambda: _prepared(bench))
    for name, recipe in recipes.items():
        export = folder.parent / f"{folder.name}-{name}"
        part(name, partial(_recipe, bench, recipe, export), name in STRUCTURAL)
    return outcome


def _part(parts: dict[str, str], name: str, work: Callable[[], str | None], may_refuse: bool = False) -> None:
    try:
        parts[name] = work() or "works"
    except ValueError as refusal:
        sentence = str(refusal)
        parts[name] = f"refused: {sentence}" if may_refuse and "\n" not in sentence else _fault(refusal)
    except TimeoutError:
        raise
    except Exception as fault:  # noqa: BLE001
        parts[name] = _fault(fault)


def _fault(fault: BaseException) -> str:
    at = fault.__traceback__
    while at and at.tb_next:
        at = at.tb_next
    where = f"{Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at else ""
    return f"fault: {type(fault).__name__} {str(fault)[:150]!r} {where}"


def _same_as_transformers(bench: Workbench, folder: Path) -> str | None:
    model: Any = bench.loaded.model
    with quiet():
        plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=next(model.parameters()).dtype).eval()
    ids = _ids(model, min(600, context_length(model)))
    with torch.inference_mode():
        ours, theirs = (each(input_ids=ids, use_cache=False).logits for each in (model, plain))
    apart = (ours.float() - theirs.float()).abs().max().item()
    return None if torch.equal(ours, theirs) else f"fault: logits differ by {apart:.3g}"


def _goes_on(model: Any) -> str | None:
    ids = _ids(model, 24)
    text = Continuation(model)
    text.feed(ids[:, :16])
    found = [text.feed(ids[:, at : at + 1]) for at in range(16, 24)]
    with torch.inference_mode():
        right = model(input_ids=ids, use_cache=False).logits[0, 16:].float()
    apart = (torch.stack(found).log_softmax(-1) - right.log_softmax(-1)).abs().max().item()
    return None if apart < 0.15 else f"fault: with its cache it differs by {apart:.3g}"


def _ids(model: Any, count: int) -> Tensor:
    return (7919 * torch.arange(count) + 11)[None] % 290


def _prepared(bench: Workbench) -> str | None:
    for _ in bench.prepare():
        pass
    return None if bench.prepared == 1.0 else f"fault: not prepared. {bench.preparation.note}"


def _recipe(bench: Workbench, recipe: Recipe, folder: Path) -> str | None:
    variant = bench.variant(recipe)
    stored, predicted = variant.size.file_bytes.value, bench.preview(recipe).file_bytes.value
    if stored != predicted:
        return f"fault: {predicted:,} bytes predicted, {stored:,} stored"
    if stored >= bench.preview(Recipe()).file_bytes.value:
        return f"fault: not smaller, {stored:,} bytes"
    pieces = list(bench.write(recipe, Prompt(text="The cat", new_tokens=6)))
    if not pieces:
        return "fault: no text"
    for _ in bench.evaluate(recipe, 40):
        pass
    for _ in bench.time(recipe, 1, 2, prompt_tokens=8):
        pass
    exported = bench.export(recipe, folder)
    if exported != stored:
        return f"fault: {stored:,} bytes stored, {exported:,} exported"
    again, _, _ = exporting.read(folder)
    ids = _ids(again, 40)
    with torch.inference_mode():
        first, second = (model(input_ids=ids, use_cache=False).logits for model in (variant.model, again))
    apart = (first.float() - second.float()).abs().max().item()
    return None if torch.equal(first, second) else f"fault: the export's logits differ by {apart:.3g}"


def of_type(kind: str, recipes: dict[str, Recipe] | None = None, seconds: int = 150) -> Outcome:
    """A tiny random model of this type, built, saved and taken through everything, within so many seconds."""

    def late(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    home = Path(tempfile.mkdtemp(prefix="family-"))
    try:
        try:
            model: Any = families.model_of(kind)
        except Exception as fault:  # noqa: BLE001
            return Outcome(kind, built=str(fault).strip().splitlines()[0][:160])
        with quiet():
            model.save_pretrained(home / "model")
        byte_tokenizer().save_pretrained(home / "model")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SIZE_EXPLORER_CACHE", str(home / "cache"))
            return everything(kind, home / "model", RECIPES if recipes is None else recipes)
    except TimeoutError:
        return Outcome(kind, parts={"time": f"fault: longer than {seconds} s"})
    finally:
        signal.alarm(0)
        shutil.rmtree(home, ignore_errors=True)


def document(outcomes: list[Outcome]) -> str:
    """docs/FAMILIES.md: what works, what is refused, and why."""
    built = [each for each in outcomes if not each.built]
    opened = [each for each in built if not each.refused]
    whole = [each for each in opened if not each.faults]
    head = f"""# Families

Written by `python -m tests.everything docs/FAMILIES.md`: a tiny random model of every causal type that transformers
{transformers.__version__} knows ({len(outcomes)}), built from its config class, opened, compared with plain
transformers (600 positions, bit for bit), calibrated, made smaller in ten ways ({", ".join(RECIPES)}), written with,
judged, timed, exported and opened again with equal predictions. Predicted, stored and exported bytes are equal
throughout.

{len(built)} can be built here; {len(built) - len(opened)} of them are refused at opening, in one sentence; of the other
{len(opened)}, **{len(whole)} work**. "–" is a cut that the family has no setting for, refused in one sentence (below).

| type | {" | ".join(RECIPES)} |
| --- |{" --- |" * len(RECIPES)}
"""
    lines = [f"| {each.kind} | {' | '.join(_mark(each.parts.get(name, '')) for name in RECIPES)} |" for each in opened]
    said = [f"- **{each.kind}**: {each.refused}" for each in built if each.refused]
    cuts = [f"- **{each.kind}**: {_refusals(each)}" for each in opened if _refusals(each)]
    faults = [f"- **{each.kind}**, {name}: {what}" for each in opened for name, what in each.faults.items()]
    missing = [f"- **{each.kind}**: {each.built}" for each in outcomes if each.built]
    sections = {
        "Refused at opening": said,
        "Cuts that a family has no setting for": cuts,
        "What does not work": faults,
        "What could not be built here, so was not tried": missing,
    }
    text = head + "\n".join(lines) + "\n"
    for title, rows in sections.items():
        text += f"\n## {title}\n\n" + ("\n".join(rows) or "Nothing.") + "\n"
    return text


def _refusals(outcome: Outcome) -> str:
    """Each sentence once, and the parts that it is said of."""
    said: dict[str, list[str]] = {}
    for name, what in outcome.parts.items():
        if what.startswith("refused"):
            said.setdefault(what.removeprefix("refused: "), []).append(name)
    return " ".join(f"{', '.join(names)}: {sentence}" for sentence, names in said.items())


def _mark(what: str) -> str:
    return "yes" if what == "works" else "–" if what.startswith("refused") else "**no**"


def main(file: Path) -> None:
    """Every type in a process pool of two; the document in place of `file`."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        outcomes = list(pool.map(of_type, families.types()))
    file.write_text(document(outcomes), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
