"""Floating-point operations of one further token, from shapes: 2 per multiply-accumulate. Executed counts what the
machine really multiplies (zeros too); useful leaves the zeros out. The head counts once per token even when tied."""

from explorer.layers.targets import Target
from explorer.methods import prune
from explorer.model.compress import plan
from explorer.recipe import Recipe
from explorer.records import Cost, Reading


def flops_per_token(found: list[Target], recipe: Recipe, attention_width: int = 0, context: int = 0) -> Cost:
    """One decode step that attends to `context` tokens, itself among them.

    `attention_width` = layers × heads × head size: scores and mixing take 2 × 2 × width × tokens.
    """
    attention = 4 * attention_width * context
    executed = useful = attention
    for target in found:
        if target.kind == "embedding":
            continue  # a lookup, not a product
        factors = plan(target, recipe)
        if not factors:
            executed += 2 * target.shape[0] * target.shape[1]
            useful += 2 * target.shape[0] * target.shape[1]
        for (rows, columns), spec in factors:
            executed += 2 * rows * columns
            useful += 2 * rows * prune.kept_columns(columns, spec.sparsity)
    return Cost(
        flops_per_token=Reading(value=executed, unit="FLOP", how="calculated"),
        useful_flops_per_token=Reading(value=useful, unit="FLOP", how="calculated"),
    )
