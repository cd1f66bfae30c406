"""How far the figures can be trusted: what nothing costs, coverage of the intervals of quality, perplexity and FLOPs
against other implementations, and how often the interval of a speed ratio holds 1 where nothing differs.

`python -m explorer.bench.numbers TEXT` prints all as JSON for the default model, about five minutes on two cores;
without a text only the last, in one minute.
"""

import copy
import json
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from explorer.layers.dense import FEW
from explorer.measure import quality, speed
from explorer.measure.intervals import Blocks
from explorer.model.decode import Batch
from explorer.model.forward import cache_word
from explorer.values.performance import Speed, verdict
from explorer.values.quality import Quality
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.workbench.measuring import CURVE_TOKENS
from explorer.workbench.techniques import apart
from explorer.workbench.workbench import COST_CONTEXT, Workbench

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
BROKEN = 5.0  # nats, beyond which nothing is predicted
PREDICTED = [
    *(Recipe(sparsity=share) for share in (0.25, 0.35, 0.45, 0.55, 0.65)),
    *(Recipe(keep=share) for share in (0.85, 0.75, 0.65)),
    *(Recipe(bits=bits, head_bits=head) for bits in (8, 6, 5, 4, 3) for head in (8, 4)),
    *(Recipe(sparsity=share, bits=bits) for share in (0.25, 0.5) for bits in (8, 4, 3)),
    *(Recipe(keep=share, bits=bits) for share in (0.9, 0.7) for bits in (6, 4)),
    *(Recipe(sparsity=share, bits=4, head_bits=4) for share in (0.2, 0.4, 0.6)),
]


def coverage(
    workbench: Workbench, recipe: Recipe, *, tokens: int = 1024, whole: int = 16384, resamples: int = 40, seed: int = 0
) -> dict[str, Any]:
    """Share of 95 % intervals at `tokens` tokens that hold the value at `whole` tokens, for each figure.

    A resample is passages drawn without replacement until they hold `tokens` tokens.
    """
    model = workbench.variant(recipe).model
    scores = _scores(workbench, model, whole)
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


def predictions(workbench: Workbench) -> dict[str, Any]:
    """Predicted against measured KL of settings between and beside the points of the curves, in the page's order of
    work: each is predicted before it is measured, and what combinations teach is used by the next."""
    for work in (workbench.prepare, workbench.measure_curves):
        for _ in work():
            pass
    rows, off = list[tuple[str, float, float]](), dict[str, list[float]]()
    for recipe in PREDICTED:
        told = workbench.curves.told(recipe)
        *_, found = workbench.evaluate(recipe, CURVE_TOKENS)
        if told and 0 < found.kl.value < BROKEN:
            workbench.curves.learn(recipe, found.kl)
            rows.append((recipe.words(), told.value, found.kl.value))
            kind = "combined" if apart(recipe) else "one slider"
            off.setdefault(kind, []).append(abs(math.log(told.value / found.kl.value)))
    return {"median_error_in_ln_kl": {kind: float(np.median(each)) for kind, each in off.items()}, "rows": rows}


def plain_loop(workbench: Workbench, tokens: int = 4096) -> dict[str, float]:
    """The original's perplexity from transformers' own loss, passage by passage, beside ours on the same tokens."""
    model, total, count = workbench.loaded.model, 0.0, 0
    nlls = []
    for passage in workbench.passages:
        if count >= tokens:
            break
        loss, nll = workbench.engine.step(lambda passage=passage: _losses(model, passage))  # type: ignore[misc]
        total, count = total + loss * passage.predicted, count + passage.predicted
        nlls.append(nll)
    ours = Blocks([len(nll) for nll in nlls]).mean(np.concatenate(nlls), "nats")
    plain, own = math.exp(total / count), math.exp(ours.value)
    return {"tokens": count, "plain_loop": plain, "ours": own, "relative_difference": abs(own / plain - 1)}


def nothing_changed(workbench: Workbench, tokens: int = 4096) -> dict[str, float]:
    """The original's distance from itself, and from a copy in memory of its own."""
    base, found = workbench.loaded.model, dict[str, float]()
    for name, model in (("itself", base), ("a_copy", workbench.engine.step(lambda: copy.deepcopy(base)))):
        summary = quality.summarize(_scores(workbench, model, tokens))
        found |= {f"kl_from_{name}": summary.kl.value, f"top1_of_{name}": summary.top1_agreement.value}
    return {"tokens": summary.tokens, **found}


def flops(workbench: Workbench) -> dict[str, float]:
    """Of one token after others, ours beside what torch counts of every matrix product."""
    ours = workbench.cost(Recipe()).flops_per_token.value
    counted = workbench.engine.step(lambda: torch_counts(workbench.loaded.model, COST_CONTEXT - 1))
    return {"ours": ours, **counted, "difference": ours - sum(counted.values())}


def torch_counts(model: Any, behind: int) -> dict[str, int]:
    """What torch counts in one decode step with so many tokens behind it, by kind: products with weights, and among
    tokens (scores and mixing)."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")  # in which attention too is plain matrix products
    try:
        text, texts = Batch(model), FEW + 1  # so many that the products are torch's, which alone are counted
        text.feed(torch.full((texts, behind), 5))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(input_ids=torch.full((texts, 1), 7), **{cache_word(model): text.cache})
    finally:
        model.set_attn_implementation(before)
    found = {str(operator): count // texts for operator, count in counter.get_flop_counts()["Global"].items()}
    weights = sum(found.get(name, 0) for name in ("aten.mm", "aten.addmm"))
    return {"weights": weights, "among_tokens": sum(found.values()) - weights}


def same_against_same(workbench: Workbench, runs: int = 10, rounds: int = 5, decode_steps: int = 8) -> dict[str, Any]:
    """A/A: the original timed in turns with a copy of itself that has memory of its own."""
    base = workbench.loaded.model
    twin = workbench.engine.step(lambda: copy.deepcopy(base))
    found: list[Speed] = []
    for _ in range(runs):
        watches = speed.Stopwatch(base, "dense"), speed.Stopwatch(twin, "dense")
        turns = speed.time_in_turns(watches, rounds=rounds, decode_steps=decode_steps)
        for _ in workbench.engine.steps(turns):
            pass
        found.append(watches[1].speed(watches[0]))
    ratios = {"prefill": [each.prefill_ratio for each in found], "decode": [each.decode_ratio for each in found]}
    return {
        "runs": runs,
        "rounds": rounds,
        "contains_1": {name: sum(verdict(each) == "no clear difference" for each in of) for name, of in ratios.items()},
        "ratios": {name: [[r.value, r.low, r.high] for r in of if r] for name, of in ratios.items()},
        "busy": sum(each.busy for each in found),
    }


def _scores(workbench: Workbench, model: Any, tokens: int) -> list[quality.Score]:
    """Of the first passages that hold so many tokens."""
    base, scores = workbench.loaded.model, list[quality.Score]()

    def score(passage: quality.Passage) -> quality.Score:
        return quality.score(passage, quality.logits_of(base, passage), quality.logits_of(model, passage))

    for passage in workbench.passages:
        if sum(s.tokens for s in scores) < tokens:
            scores.append(workbench.engine.step(partial(score, passage)))
    return scores


@torch.inference_mode()
def _losses(model: Any, passage: quality.Passage) -> tuple[float, quality.Floats]:
    loss = float(model(input_ids=passage.ids, labels=passage.ids, use_cache=False).loss)
    return loss, quality.nll_of(passage, quality.logits_of(model, passage))


def run(text: Path) -> dict[str, Any]:
    """All, and the noise floor."""
    workbench = Workbench(texts={text.stem: [text.read_text(encoding="utf-8")]}).load()
    for _ in workbench.prepare():
        pass
    floors = list(workbench.noise_floor())
    return {
        "nothing_changed": nothing_changed(workbench),
        "flops": flops(workbench),
        "perplexity": plain_loop(workbench),
        "same_against_same": same_against_same(workbench),
        "noise_floor": floors[-1].value,
        "predictions": predictions(Workbench().load()),
        "coverage": [coverage(workbench, recipe) for recipe in (Recipe(bits=4), Recipe(bits=6))],
    }


if __name__ == "__main__":
    asked = sys.argv[1:]
    print(json.dumps(run(Path(asked[0])) if asked else same_against_same(Workbench().load()), indent=2))
