"""How fast this program answers on this machine: the figures that README shows. Run it with nothing beside it."""

import importlib
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import save

from explorer.layers.storage import tensors_of
from explorer.measure import size
from explorer.model.compress import compress
from explorer.recipe import Recipe
from explorer.records import Reading
from explorer.workbench import Workbench


def run(workbench: Workbench, say: Callable[[str], None]) -> dict[str, Any]:
    """Every figure with its samples' median and spread; takes about two minutes on the default model."""
    say("Preparing facts.")
    for _ in workbench.prepare():
        pass
    return {
        "machine": machine(),
        "model": workbench.name,
        "load_seconds": workbench.seconds["load"],
        "prepare_seconds": workbench.seconds.get("prepare"),
        "release_to_weights_seconds": _apply(workbench, say),
        "decode": _decode(workbench, say),
        "bytes": _bytes(workbench, say),
        "empty_recipe_identical": _identical(workbench),
        "page": _page(workbench.name, say),
    }


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def every_recipe() -> Iterator[Recipe]:
    """All kinds of combinations of the sliders, 84 of them."""
    for bits in (16, 8, 6, 5, 4, 3, 2):
        for sparsity, keep in ((0.0, 1.0), (0.5, 1.0), (0.0, 0.6), (0.35, 0.8)):
            for head_bits, group in ((16, "auto"), (8, "32"), (4, "64")):
                yield Recipe(bits=bits, sparsity=sparsity, keep=keep, head_bits=head_bits, group=group)


def _apply(workbench: Workbench, say: Callable[[str], None]) -> dict[str, Any]:
    sliders = {
        "sparsity": [Recipe(sparsity=s) for s in (0.1, 0.3, 0.5, 0.7, 0.9)],
        "bits": [Recipe(bits=b) for b in (8, 6, 5, 4, 3)],
        "bits with head": [Recipe(bits=b, head_bits=b) for b in (8, 6, 5, 4, 3)],
        "keep": [Recipe(keep=k) for k in (0.3, 0.5, 0.6, 0.8, 0.95)],
        "all three": [Recipe(sparsity=s, bits=4, keep=k) for s in (0.3, 0.5) for k in (0.5, 0.8)],
    }
    result = {}
    for name, recipes in sliders.items():
        say(f"Weights ready after a release: {name}.")
        seconds = [workbench.variant(recipe).seconds for recipe in recipes]
        result[name] = Reading.timing(seconds, "s").to_dict()
    return result


def _decode(workbench: Workbench, say: Callable[[str], None]) -> dict[str, Any]:
    result = {}
    for name, recipe in {
        "4 bits, head too": Recipe(bits=4, head_bits=4),
        "8 bits, head too": Recipe(bits=8, head_bits=8),
        "50 % zeros": Recipe(sparsity=0.5),
        "A/A (original against itself)": Recipe(),
    }.items():
        say(f"Decode in turns with the original: {name}.")
        ratios, last = [], None
        for original, compressed in workbench.time(recipe, rounds=9, decode_steps=8):
            last = (original, compressed)
        assert last
        ratios = [last[0].ms_per_token.value / last[1].ms_per_token.value]
        result[name] = {
            "original_ms_per_token": last[0].ms_per_token.to_dict(),
            "ms_per_token": last[1].ms_per_token.to_dict(),
            "prefill_ms": last[1].prefill_ms.to_dict(),
            "original_prefill_ms": last[0].prefill_ms.to_dict(),
            "times_faster": ratios[0],
            "kernel": last[1].kernel,
        }
    return result


def _bytes(workbench: Workbench, say: Callable[[str], None]) -> dict[str, Any]:
    say("Predicted against stored bytes.")
    recipes = list(every_recipe())
    equal = 0
    for recipe in recipes:
        with torch.no_grad():
            model = compress(workbench.loaded.model, recipe, workbench.facts)
        tensors = {name: tensor.contiguous() for name, tensor in tensors_of(model).items()}
        file = save(tensors)
        exported = len(file) - 8 - int.from_bytes(file[:8], "little")  # behind the header
        predicted = workbench.preview(recipe).predicted_bytes.value
        equal += predicted == size.stored_bytes(model) == exported
    started = [time.perf_counter()]
    for recipe in recipes:
        workbench.preview(recipe)
        started.append(time.perf_counter())
    steps = [b - a for a, b in zip(started, started[1:], strict=False)]
    return {
        "recipes": len(recipes),
        "predicted_equals_stored_equals_exported": equal,
        "preview_ms": median(steps) * 1e3,
    }


def _identical(workbench: Workbench) -> bool:
    ids = workbench.passages[0].ids
    with torch.inference_mode():
        original = workbench.loaded.model(input_ids=ids).logits
        return torch.equal(original, workbench.variant(Recipe()).model(input_ids=ids).logits)


def _page(model: str, say: Callable[[str], None]) -> dict[str, Any] | None:
    """None where there is no playwright or no Chromium to look at the page with."""
    try:
        bench_page = importlib.import_module("explorer.bench_page")
    except ImportError:
        return None
    return bench_page.run(model, say) if Path(bench_page.CHROMIUM).exists() else None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            return next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
