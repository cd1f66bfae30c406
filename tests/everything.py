"""One model of a type, through everything that the program does with models: opened, calibrated, made smaller in ten
ways, written with, exported and opened again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
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
from tests.conftest import TEXTS

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
    windows, preparing.windows_of = preparing.windows_of, partial(preparing.windows_of, tokens=tokens)
    try:
        part("prepare", lambda: _prepared(bench))
    finally:
        preparing.windows_of = windows
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
    if bench.preparation.note:
        return f"fault: {bench.preparation.note}"
    return None if bench.prepared == 1.0 else "fault: not prepared"


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
