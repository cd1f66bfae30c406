"""Fewer blocks, and a config that still says of each what it is."""

from typing import Literal

from explorer.methods import structure
from explorer.model.cuts import Cuts
from explorer.model.families import NUMBERED

DepthMethod = Literal["influence", "angular"]


def drop_blocks(cuts: Cuts, removed: float, method: DepthMethod) -> None:
    """Remove this share of the blocks, those that cost the least first."""
    blocks = len(cuts.kept)
    count = structure.kept_blocks(blocks, removed)
    if count == blocks:
        return
    order = list(reversed(range(blocks)))
    if cuts.facts is not None:
        run = structure.best_run(cuts.facts.angles, blocks - count) if method == "angular" else []
        order = [*run, *(b for b in structure.cheapest_first(cuts.facts.drop_scores) if b not in run)]
    cuts.kept = sorted(order[blocks - count :])
    config = cuts.config.get_text_config()
    for name, value in vars(config).items():
        if name in NUMBERED and value:
            setattr(config, name, [cuts.kept.index(block) for block in value if block in cuts.kept])
        elif isinstance(value, list | tuple) and len(value) == blocks and "layer" in name:
            setattr(config, name, [value[block] for block in cuts.kept])  # layer_types, no_rope_layers, …
    if hasattr(config, "attention_types"):  # GPT-Neo reads its list of layers from this one
        config.attention_types = [[config.attention_layers, 1]]
    config.num_hidden_layers = count
