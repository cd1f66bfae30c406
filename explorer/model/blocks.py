"""Fewer blocks, and a config that still says of each what it is."""

from collections.abc import Iterator
from itertools import chain
from typing import Any, Literal

from explorer.methods import structure
from explorer.model.cuts import BlockScores

DepthMethod = Literal["influence", "angular"]
NUMBERED = (
    *("moe_layers", "mlp_only_layers", "hybrid_layer_ids", "full_attn_idxs", "ple_layer_ids"),
    *("cross_attention_layers", "global_attn_indexes", "kv_shared_layers"),
)  # the config's lists of block numbers
FIRST = ("first_k_dense_replace", "num_dense_layers", "max_window_layers", "n_dense_layers", "num_hash_layers")
LAST = ("num_kv_shared_layers",)  # how many blocks, counted from the first or from the last, are of another kind
BY_BLOCK = ("layer", "block", "pattern", "type", "intermediate_size")  # in names of lists with an entry a block
MANY = 6  # a list of so many entries is by block whatever it is called
MAPS = ("per_layer_config",)  # from a block's number
SWAPS = 48  # of one block for another, tried where a family refuses the cheapest


def choices(blocks: int, kept: int, method: DepthMethod, scores: BlockScores | None) -> Iterator[list[int]]:
    """Blocks to keep, ascending: those whose loss costs the least go first, by `scores` or from the end; then what a
    family with a pattern may rather accept, neighbours that go together and one block in place of another."""
    gone = blocks - kept
    order = list(reversed(range(blocks)))
    if scores is not None:
        run = structure.best_run(scores.angles, gone) if method == "angular" else []
        order = [*run, *(b for b in structure.cheapest_first(scores.drop_scores) if b not in run)]
    cost = {block: place for place, block in enumerate(order)}
    first = order[:gone]
    runs = sorted((list(range(at, at + gone)) for at in range(kept + 1)), key=lambda run: sum(cost[b] for b in run))
    swaps = ([b for b in first if b != out] + [other] for other in order[gone:] for out in reversed(first))
    seen = set[tuple[int, ...]]()
    for place, choice in enumerate(chain([first], runs, swaps)):
        kept_blocks = tuple(sorted(set(range(blocks)) - set(choice)))
        if kept_blocks not in seen and place <= len(runs) + SWAPS:
            seen.add(kept_blocks)
            yield list(kept_blocks)


def without(config: Any, kept: list[int], blocks: int) -> Any:
    """The config of a model of which these blocks are kept, out of so many; it may be refused by its family's rules,
    in whatever exception those raise."""
    values, text = config.to_dict(), config.get_text_config()
    part = next((name for name in getattr(config, "sub_configs", {}) if getattr(config, name, None) is text), "")
    _say(values[part] if part else values, kept, blocks, text)
    return type(config).from_dict(values)


def _say(values: dict[str, Any], kept: list[int], blocks: int, text: Any) -> None:
    for name, value in list(values.items()):
        if name in NUMBERED and isinstance(value, list | tuple) and value:
            values[name] = [kept.index(block) for block in value if block in kept]
        elif name in MAPS and isinstance(value, dict):
            values[name] = {type(b)(kept.index(int(b))): v for b, v in value.items() if int(b) in kept}
        elif isinstance(value, list | tuple) and len(value) == blocks and _by_block(name, blocks):
            values[name] = [value[block] for block in kept]  # layer_types, no_rope_layers, …
        elif name in FIRST and isinstance(value, int):
            values[name] = sum(block < value for block in kept)
        elif name in LAST and isinstance(value, int):
            values[name] = sum(block >= blocks - value for block in kept)
    if "attention_types" in values:  # GPT-Neo reads its list of layers from this one
        values["attention_types"] = [[values["attention_layers"], 1]]
    values[text.attribute_map.get("num_hidden_layers", "num_hidden_layers")] = len(kept)


def _by_block(name: str, entries: int) -> bool:
    return entries >= MANY or any(word in name for word in BY_BLOCK)
