"""Floating-point operations of one further token, from shapes: 2 per multiply-accumulate. Executed counts what the
machine really multiplies (zeros too); useful leaves the zeros out. The head counts once per token even when tied.
Beside them the other limit: what must be read from memory for it."""

from dataclasses import replace
from typing import Any

from explorer.layers.targets import Target
from explorer.measure.size import kept_values
from explorer.model.plan import DENSE, NOTHING, Allotment, plans
from explorer.values.footprint import Cost
from explorer.values.performance import Roofline
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe


def attention_width(found: list[Target], config: Any) -> int:
    """Layers × heads × head size, from the query matrices; or from the hidden size where those are not apart."""
    attention = [t for t in found if t.kind == "attention"]
    width = sum(t.shape[0] for t in attention if t.name.endswith(("q_proj", "query")))
    return width or len({t.block for t in attention}) * int(config.get_text_config().hidden_size)


def flops_per_token(
    found: list[Target], recipe: Recipe, attention_width: int = 0, context: int = 0, allotted: Allotment = NOTHING
) -> Cost:
    """One decode step that attends to `context` tokens, itself among them.

    `attention_width` = layers × heads × head size: scores and mixing take 2 × 2 × width × tokens.
    """
    attention = 4 * attention_width * context
    executed = useful = float(attention)
    planned = plans(found, recipe, allotted)
    for target in found:
        if target.kind == "embedding":  # a lookup, not a product; hidden states turned behind it and before the head
            turns = 2 * 2 * target.shape[1] ** 2 if recipe.rotate else 0
            executed, useful = executed + turns, useful + turns
            continue
        factors = planned[target.name].all() or ((target.shape, DENSE),)
        met = target.active / target.experts if target.experts else 1
        executed += met * sum(2 * rows * columns for (rows, columns), _ in factors)
        useful += met * sum(2 * kept_values(shape, spec) for shape, spec in factors)
    return Cost(
        flops_per_token=Reading(value=executed, unit="FLOP", how="calculated"),
        useful_flops_per_token=Reading(value=useful, unit="FLOP", how="calculated"),
    )


def roofline(weight_bytes: float, cache_bytes: float, bandwidth: Reading, ms: Reading) -> Roofline:
    """The limit of one decode step that takes `ms`: its bytes at the bandwidth (bytes/s) that was measured here.

    weight_bytes as by `size.read_bytes`; cache_bytes: keys and values of all texts so far.
    """
    moved = weight_bytes + cache_bytes
    floor = Reading(value=moved / bandwidth.value * 1e3, unit="ms", how="calculated")
    return Roofline(
        bytes_per_token=Reading(value=moved, unit="bytes", how="calculated"),
        floor_ms=floor,
        share=replace(floor, value=floor.value / ms.value, unit="share"),
    )
