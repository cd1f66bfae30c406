"""How far the figures of quality can be trusted: coverage of their intervals, and perplexity against a plain loop.

`python -m explorer.bench_numbers TEXT` prints both as JSON for the default model; about three minutes on two cores.
"""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from explorer.measure import quality
from explorer.measure.intervals import Blocks
from explorer.recipe import Recipe
from explorer.records import Quality, Reading
from explorer.workbench import Workbench

FIGURES: dict[str, Callable[[Quality], Reading]] = {
    "kl": lambda q: q.kl,
    "ln_ppl_ratio": lambda q: q.ln_ppl_ratio,
    "perplexity": lambda q: q.perplexity,
    "top1_agreement": lambda q: q.top1_agreement,
    "delta_p_mean": lambda q: q.delta_p_mean,
    "delta_p_rms": lambda q: q.delta_p_rms,
    "kl_median": lambda q: q.kl_median,
    "kl_90": lambda q: q.kl_90,
}


def coverage(
    workbench: Workbench, recipe: Recipe, *, tokens: int = 1024, whole: int = 16384, resamples: int = 40, seed: int = 0
) -> dict[str, Any]:
    """Share of 95 % intervals at `tokens` tokens that hold the value at `whole` tokens, for each figure.

    A resample is passages drawn without replacement until they hold `tokens` tokens.
    """
    model = workbench.variant(recipe).model
    scores: list[quality.Score] = []
    for passage in workbench.passages:
        if sum(s.tokens for s in scores) < whole:
            scores.append(workbench.step(lambda passage=passage: _score(workbench, model, passage)))  # type: ignore[misc]
    truth, draws = quality.summarize(scores), np.random.default_rng(seed)
    held, widths = dict.fromkeys(FIGURES, 0), {name: list[float]() for name in FIGURES}
    for _ in range(resamples):
        order = draws.permutation(len(scores))
        enough = int(np.searchsorted(np.cumsum([scores[i].tokens for i in order]), tokens)) + 1
        found = quality.summarize([scores[i] for i in order[:enough]])
        for name, of in FIGURES.items():
            low, high = of(found).low, of(found).high
            assert low is not None and high is not None
            held[name] += low <= of(truth).value <= high
            widths[name].append((high - low) / 2 / abs(of(truth).value))
    return {
        "recipe": recipe.words(),
        "tokens": truth.tokens,
        "resamples": resamples,
        "held": {name: count / resamples for name, count in held.items()},
        "half_width": {name: float(np.median(each)) for name, each in widths.items()},
        "truth": {name: of(truth).value for name, of in FIGURES.items()},
    }


def plain_loop(workbench: Workbench, tokens: int = 4096) -> dict[str, float]:
    """The original's perplexity from transformers' own loss, passage by passage, beside ours on the same tokens."""
    model, total, count = workbench.loaded.model, 0.0, 0
    nlls = []
    for passage in workbench.passages:
        if count >= tokens:
            break
        loss, nll = workbench.step(lambda passage=passage: _losses(model, passage))  # type: ignore[misc]
        total, count = total + loss * passage.predicted, count + passage.predicted
        nlls.append(nll)
    ours = Blocks([len(nll) for nll in nlls]).mean(np.concatenate(nlls), "nats")
    plain, own = math.exp(total / count), math.exp(ours.value)
    return {"tokens": count, "plain_loop": plain, "ours": own, "relative_difference": abs(own / plain - 1)}


def _score(workbench: Workbench, model: Any, passage: quality.Passage) -> quality.Score:
    return quality.score(passage, quality.logits_of(workbench.loaded.model, passage), quality.logits_of(model, passage))


@torch.inference_mode()
def _losses(model: Any, passage: quality.Passage) -> tuple[float, quality.Floats]:
    loss = float(model(input_ids=passage.ids, labels=passage.ids, use_cache=False).loss)
    return loss, quality.nll_of(passage, quality.logits_of(model, passage))


def run(text: Path) -> dict[str, Any]:
    """Both, and the noise floor."""
    workbench = Workbench(texts={text.stem: [text.read_text(encoding="utf-8")]}).load()
    for _ in workbench.prepare():
        pass
    floors = list(workbench.noise_floor())
    return {
        "perplexity": plain_loop(workbench),
        "noise_floor": floors[-1].value,
        "coverage": [coverage(workbench, recipe) for recipe in (Recipe(bits=4), Recipe(bits=6))],
    }


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1])), indent=2))
