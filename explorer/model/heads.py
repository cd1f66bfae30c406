"""Fewer groups of attention heads: a key and value head, and the query heads that share it."""

import copy

import torch

from explorer.methods import structure
from explorer.model.cuts import Cuts
from explorer.model.families import attention_of, matrix_of


def drop_heads(cuts: Cuts, removed: float) -> None:
    """Keep the same number of groups of heads, each with its key and value head, in every attention."""
    attentions = [attention_of(cuts.base, block) for block in cuts.blocks]
    config = cuts.config.get_text_config()
    old = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or old
    head = matrix_of(cuts.linear(attentions[0][3])).shape[1] // old
    for attention in attentions:
        rows = [matrix_of(cuts.linear(name)).shape[0] for name in attention[:3]]
        if rows != [old * head, groups * head, groups * head]:
            raise ValueError(f"{cuts.family} has heads of several sizes, so heads cannot be removed.")
    wanted = structure.kept_groups(groups, removed)
    count = _allowed_groups(cuts, wanted, groups, old // groups, head)
    if count != wanted:
        cuts.notes += [f"{cuts.family} cannot have {wanted} groups of heads at this hidden size; {count} are kept."]
    if count == groups:
        return
    for query, key, value, output in attentions:
        weight = matrix_of(cuts.linear(output))
        chosen = torch.arange(count, device=weight.device)
        if cuts.facts is not None:
            gram = cuts.gram(output, weight)
            chosen = structure.strongest(structure.group_scores(weight, gram, groups), count)
        cuts.keep_rows(query, structure.columns_of(chosen, old // groups * head))
        for name in (key, value):
            cuts.keep_rows(name, structure.columns_of(chosen, head))
        cuts.keep_columns(output, structure.columns_of(chosen, old // groups * head), True)


def _allowed_groups(cuts: Cuts, wanted: int, groups: int, queries: int, head: int) -> int:
    """The number of groups nearest to the wanted one that the config agrees to (Llama's heads must divide it)."""
    for count in sorted(range(1, groups + 1), key=lambda count: abs(count - wanted)):  # of two as near, the fewer
        if count == groups:
            break
        trial = copy.deepcopy(cuts.config)
        config = trial.get_text_config()
        config.head_dim, config.num_attention_heads = head, queries * count
        if hasattr(config, "num_key_value_heads"):
            config.num_key_value_heads = count
        try:
            type(trial).from_dict(trial.to_dict())
        except Exception:  # each family checks in its own way
            continue
        cuts.config = trial
        return count
    return groups
