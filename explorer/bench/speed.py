"""How fast this program answers on this machine: the figures that README shows. Run it with nothing beside it."""

import importlib
import os
import platform
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from explorer.bench import peers, race
from explorer.layers.storage import tensors_of
from explorer.measure import quality, size, speed
from explorer.measure.machine import processor
from explorer.model.compressing import compress
from explorer.values.performance import Speed
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

SPARSEGPT = Recipe(sparsity=0.5, prune="sparsegpt")
BUDGETS = (  # at most 143, 137, 107, 94, 84, 76 and 66 MB of the default model
    Recipe(bits=8, head_bits=8, group="64", quant="gptq"),
    Recipe(bits=7, head_bits=8, group="64", quant="gptq"),
    Recipe(bits=6, head_bits=6, quant="gptq"),
    Recipe(bits=5, head_bits=6, quant="gptq"),
    Recipe(bits=4, head_bits=5, group="32", quant="gptq"),
    Recipe(bits=4, head_bits=5, quant="gptq", layers=("model.layers.17=bits:3",)),
    Recipe(bits=3, head_bits=5, quant="gptq"),
)
QUALITY = (
    *BUDGETS,
    Recipe(bits=4, quant="rtn"),
    Recipe(bits=4),
    Recipe(bits=4, quant="hqq"),
    Recipe(bits=4, quant="awq"),
    Recipe(quant="nf4"),
    Recipe(sparsity=0.5, prune="magnitude"),
    Recipe(sparsity=0.5),
    Recipe(sparsity=0.5, prune="ria"),
    SPARSEGPT,
    Recipe(pattern="4:8"),
    Recipe(pattern="2:4"),
    Recipe(keep=0.8, factorize="svd"),
    Recipe(keep=0.8, factorize="asvd"),
    Recipe(keep=0.8),
    Recipe(keep=0.8, allocate="global"),
    Recipe(keep=0.95),
    Recipe(keep=0.95, allocate="global"),
    Recipe(depth=0.04),
    Recipe(depth=0.06),
    Recipe(width=0.25),
    Recipe(heads=0.34),
    Recipe(bits=3, quant="rtn"),
    Recipe(bits=3, quant="rtn", residual_rank=32),
)
QUALITY_TOKENS = 2048


def run(workbench: Workbench, say: Callable[[str], None], gguf: Path | None = None) -> dict[str, Any]:
    """Every figure with its samples' median and spread; takes about ten minutes on the default model. With a `gguf` of
    the same weights, llama.cpp's figures stand beside ours."""
    say("Preparing facts.")
    for _ in workbench.prepare():
        pass
    original = references(workbench)
    return {
        "machine": machine(),
        "model": workbench.name,
        "load_seconds": workbench.seconds["load"],
        "prepare_seconds": workbench.seconds.get("prepare"),
        "release_to_weights_seconds": _apply(workbench, say),
        "best_level_seconds": _best(workbench, say),
        "decode": _decode(workbench, say),
        "quality": quality_rows(workbench, original, say),
        "peers": against_peers(workbench, original, gguf, say) if gguf else None,
        "race": race.run(workbench, original, say) if gguf and find_spec("llama_cpp") else None,
        "bytes": _bytes(workbench, say),
        "empty_recipe_identical": _identical(workbench),
        "page": _page(workbench.name, say),
    }


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def every_recipe() -> Iterator[Recipe]:
    """All kinds of combinations of the sliders, 84 of them, and of what else a matrix can be stored as."""
    for bits in (16, 8, 6, 5, 4, 3, 2):
        for sparsity, keep in ((0.0, 1.0), (0.5, 1.0), (0.0, 0.6), (0.35, 0.8)):
            for head_bits, group in ((16, "auto"), (8, "32"), (4, "64")):
                yield Recipe(bits=bits, quant="rtn", sparsity=sparsity, keep=keep, head_bits=head_bits, group=group)
    yield from (Recipe(quant=quant) for quant in ("nf4", "fp4", "int8"))
    yield from (Recipe(quant="nf4", double=True), Recipe(pattern="2:4"), Recipe(pattern="4:8", bits=4, quant="rtn"))
    yield from (Recipe(sparsity=0.3, scope="layer"), Recipe(bits=7, quant="rtn", layers=("mlp=bits:3",)))
    yield from (Recipe(bits=4, quant="rtn", protect=("first", "last")), Recipe(keep=0.7, layers=("mlp=keep:0.5",)))


def _apply(workbench: Workbench, say: Callable[[str], None]) -> dict[str, Any]:
    sliders = {
        "sparsity": [Recipe(sparsity=s) for s in (0.1, 0.3, 0.5, 0.7, 0.9)],
        "bits": [Recipe(bits=b) for b in (8, 6, 5, 4, 3)],
        "bits with head": [Recipe(bits=b, head_bits=b) for b in (8, 6, 5, 4, 3)],
        "keep": [Recipe(keep=k) for k in (0.3, 0.5, 0.6, 0.8, 0.95)],
        "depth": [Recipe(depth=d) for d in (0.04, 0.1, 0.2, 0.34, 0.5)],
        "all three": [Recipe(sparsity=s, bits=4, quant="rtn", keep=k) for s in (0.3, 0.5) for k in (0.5, 0.8)],
    }
    result = {}
    for name, recipes in sliders.items():
        say(f"Weights ready after a release: {name}.")
        first, again = ([workbench.variant(recipe).seconds for recipe in recipes] for _ in range(2))
        result[name] = {**Reading.timing(first, "s").to_dict(), "second_visits": median(again)}
    return result


def _best(workbench: Workbench, say: Callable[[str], None]) -> dict[str, Any]:
    """Whole model by the second-order methods, worked out anew; the first one calibrates backwards too."""
    found: dict[str, Any] = {"backward_calibration_was_kept": workbench.facts.refined}
    for name, recipe in {"gptq": Recipe(bits=4, quant="gptq"), "sparsegpt": SPARSEGPT}.items():
        say(f"Best level: {name}.")
        started = time.perf_counter()
        workbench.variants.unsettled(recipe, anew=True)
        found[name] = time.perf_counter() - started
    return found


def references(workbench: Workbench) -> quality.References:
    """The original's predictions on the text that the workbench was opened with."""
    passages = workbench.passages
    return workbench.engine.step(lambda: quality.References(workbench.loaded.model, passages, QUALITY_TOKENS))


def quality_rows(
    workbench: Workbench, original: quality.References, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """KL of many settings, weights as stored, in float32 (see `quality.References`)."""
    rows = []
    for recipe in QUALITY:
        say(f"Distance from the original: {recipe.words()}.")
        model = workbench.variants.unsettled(recipe).model
        kl, tokens = workbench.engine.step(partial(original.compare, model))
        megabytes = size.stored_bytes(model) / 1e6
        rows.append({"recipe": recipe.words(), "megabytes": megabytes, "kl": kl, "tokens": tokens})
    return rows


def against_peers(
    workbench: Workbench, original: quality.References, gguf: Path, say: Callable[[str], None]
) -> list[dict[str, Any]] | None:
    """llama.cpp on the same weights and text; None where llama-cpp-python is not installed."""
    return peers.run(gguf, original, say, workbench.engine.step) if find_spec("llama_cpp") else None


def _decode(workbench: Workbench, say: Callable[[str], None]) -> dict[str, Any]:
    """In turns: the original as transformers runs it, the original in the own step, the compressed model in it."""
    result = {}
    for name, recipe in {
        "4 bits, head too": Recipe(bits=4, head_bits=4),
        "8 bits, head too": Recipe(bits=8, head_bits=8),
        "50 % zeros": Recipe(sparsity=0.5),
        "A/A (original against itself)": Recipe(),
    }.items():
        say(f"Decode in turns with the original: {name}.")
        plain, original, compressed = _race(workbench, recipe)
        result[name] = {
            "transformers_ms_per_token": plain.ms_per_token.to_dict(),
            "original_ms_per_token": original.ms_per_token.to_dict(),
            "ms_per_token": compressed.ms_per_token.to_dict(),
            "prefill_ms": compressed.prefill_ms.to_dict(),
            "original_prefill_ms": original.prefill_ms.to_dict(),
            "times_faster": original.ms_per_token.value / compressed.ms_per_token.value,
            "times_faster_than_transformers": plain.ms_per_token.value / compressed.ms_per_token.value,
            "kernel": compressed.kernel,
            "loop": compressed.loop,
        }
    return result


def _race(workbench: Workbench, recipe: Recipe) -> tuple[Speed, Speed, Speed]:
    """In turns: the original by transformers for every token, by the own step, and the compressed model."""
    variant, base = workbench.variant(recipe), workbench.loaded.model
    watches = (
        speed.Stopwatch(base, "dense", own_step=False),
        speed.Stopwatch(base, "dense"),
        speed.Stopwatch(variant.model, variant.kernel),
    )
    turns = speed.time_in_turns(watches, rounds=9, decode_steps=8)
    while workbench.engine.step(lambda: next(turns, None)) is not None:
        pass
    plain, original, compressed = (workbench.engine.step(watch.speed) for watch in watches)
    return plain, original, compressed


def _bytes(workbench: Workbench, say: Callable[[str], None]) -> dict[str, Any]:
    say("Predicted against stored bytes.")
    recipes = list(every_recipe())
    equal = 0
    for recipe in recipes:
        model = workbench.engine.step(partial(_compressed, workbench, recipe))
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


def _compressed(workbench: Workbench, recipe: Recipe) -> nn.Module:
    with torch.no_grad():
        return compress(workbench.loaded.model, recipe, workbench.facts)


def _identical(workbench: Workbench) -> bool:
    ids = workbench.passages[0].ids
    same = workbench.variant(Recipe()).model

    def compare() -> bool:
        with torch.inference_mode():
            return torch.equal(workbench.loaded.model(input_ids=ids).logits, same(input_ids=ids).logits)

    return bool(workbench.engine.step(compare))


def _page(model: str, say: Callable[[str], None]) -> dict[str, Any] | None:
    """None where there is no playwright or no Chromium to look at the page with."""
    try:
        bench_page = importlib.import_module("explorer.bench.page")
    except ImportError:
        return None
    return bench_page.run(model, say) if Path(bench_page.CHROMIUM).exists() else None
