"""Compressed models that took long to work out, kept on disk: only what was stored anew, so that the second visit to a
setting is instant. A file that cannot be used counts as absent."""

import json
import logging
from hashlib import sha256
from itertools import chain
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from explorer.files import replacing
from explorer.layers.linear import device_of
from explorer.layers.storage import tensors_of
from explorer.model.compressing import Built, skeleton
from explorer.model.disk import save_tensors
from explorer.model.plan import Allotment
from explorer.values.progress import HealStep
from explorer.values.recipe import Recipe

VERSION = 5  # of how things are worked out: what an earlier one made is made anew
LARGEST_TOTAL = 3_000_000_000  # bytes of what is kept for one model; the oldest go first


def file_of(folder: Path, tokens: int, recipe: Recipe) -> Path:
    """Where in its model's folder a recipe, worked out with facts from so many tokens, is kept."""
    key = json.dumps([VERSION, tokens, recipe.to_dict()], sort_keys=True)
    return folder / f"{sha256(key.encode()).hexdigest()[:24]}.safetensors"


def save(built: Built, base: nn.Module, file: Path) -> None:
    """Write what the model does not share with its base, in one step; OSError where that cannot be."""
    new = _new(built.model, base)
    about = {"kept": json.dumps(dict(built.allotted.kept)), "rank": json.dumps(dict(built.allotted.rank))}
    about["note"] = built.note
    about["curve"] = json.dumps([step.to_dict() for step in built.curve])
    with replacing(file) as partial:
        save_tensors(new, partial, about)
    files = sorted(file.parent.glob("*.safetensors"), key=lambda f: f.stat().st_mtime, reverse=True)
    total = 0
    for each in files:
        total += each.stat().st_size
        if total > LARGEST_TOTAL and each != file:
            each.unlink(missing_ok=True)


def load(base: nn.Module, recipe: Recipe, file: Path) -> Built | None:
    """The model again, sharing all else with `base`, cut as the recipe says; None if there is none."""
    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as opened:
            about = opened.metadata() or {}
        allotted = Allotment(kept=json.loads(about["kept"]), rank=json.loads(about["rank"]))
        curve = tuple(HealStep.of(**step) for step in json.loads(about.get("curve", "[]")))
        tensors = load_file(file)
        model = skeleton(base, recipe, allotted)
        expected = {name: (t.shape, t.dtype) for name, t in model.state_dict().items()}
        if any(expected.get(name) != (t.shape, t.dtype) for name, t in tensors.items()):
            raise ValueError("its tensors do not fit the recipe")
        if not _new(model, base).keys() <= tensors.keys():
            raise ValueError("it does not hold what the recipe stores anew")
        model.load_state_dict(tensors, strict=False, assign=True)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        logging.getLogger(__name__).warning("a kept model is damaged, working it out again: %s", error)
        file.unlink(missing_ok=True)
        return None
    file.touch()
    device = device_of(base)
    with torch.no_grad():
        return Built(model=model.to(device), allotted=allotted, note=about.get("note", ""), curve=curve)


def _new(model: nn.Module, base: nn.Module) -> dict[str, Tensor]:
    """What a model does not share with its base."""
    shared = {tensor.data_ptr() for tensor in chain(base.parameters(), base.buffers())}
    return {name: tensor for name, tensor in tensors_of(model).items() if tensor.data_ptr() not in shared}
