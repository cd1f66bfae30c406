"""A .gguf file whose matrices are rounded for the types that llama.cpp's users ask for (Q4_K_M and the like), from the
original weights and with what is known of their inputs: types and bytes of llama-quantize's files of that name."""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explorer.formats.gguf_blocks import PLAIN, bytes_of, plain
from explorer.formats.gguf_file import GgufFile
from explorer.formats.gguf_mixes import MIXES, types
from explorer.formats.gguf_superblocks import packed
from explorer.formats.gguf_tensors import Entry
from explorer.formats.leaves import Leaf
from explorer.methods import superblocks
from explorer.methods.superblocks import KINDS, Ranges
from explorer.model.facts import Facts
from explorer.values.progress import scaled
from explorer.values.recipe import Recipe

BATCH_BYTES = 200_000_000  # of weights and Gram matrices that go through the loop together, three times over
STRUCTURAL = ("depth", "depth_by", "width", "width_by", "heads")
SUPER = KINDS["Q4_K"].span
T = TypeVar("T")


def mix_of(quant: Sequence[str]) -> tuple[str, list[str]]:
    """Of the values of --quant the name of a mix in llama.cpp's spelling, or '', and the others. ValueError of two."""
    known = {name.lower(): name for name in MIXES}
    found = [known[each.lower()] for each in quant if each.lower() in known]
    if len(found) > 1:
        raise ValueError(f"One file is rounded for one grid: {found[0]} or {found[1]}.")
    return (found or [""])[0], [each for each in quant if each.lower() not in known]


def judged(recipe: Recipe, mix: str) -> None:
    """ValueError in one sentence where a setting leaves nothing to round, or rounds itself."""
    if recipe != Recipe(**{name: getattr(recipe, name) for name in STRUCTURAL}):
        sentence = f"{mix} rounds the original's weights itself: it goes with blocks, channels and heads taken out"
        raise ValueError(f"{sentence}, and with no bits, zeros, factors, rotation or healing.")


def mixed(made: GgufFile, mix: str, config: Any) -> GgufFile:
    """The file with the mix's types, told from shapes; its matrices still have to be rounded."""
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None) or 1
    keys = getattr(text, "num_key_value_heads", None) or heads
    if any(entry.leaf is not None and len(entry.shape) > 2 for entry in made.entries):
        raise ValueError(f"Experts are not rounded for {mix} here; their codes of a setting leave as they are.")
    shapes = {entry.name: entry.shape for entry in made.entries if entry.leaf is not None}
    found = types(mix, shapes, made.said.architecture, text.num_hidden_layers, 0, heads // keys)
    entries = [_of_kind(entry, found[entry.name]) if entry.name in found else entry for entry in made.entries]
    words = {"general.description": f"{mix}, rounded for its types with calibration"}
    return replace(made, entries=tuple(entries), mix=mix, about=dict(made.about) | words)


def _of_kind(entry: Entry, kind: str) -> Entry:
    assert entry.leaf is not None
    return replace(entry, kind=kind, bytes=bytes_of(entry.leaf, kind))


def rounded(made: GgufFile, facts: Facts) -> Generator[float, None, GgufFile]:
    """The file of `mixed` with its matrices rounded under the facts' inputs; yields the share done. What nothing is
    known of (the embedding) is rounded by search alone."""
    groups: dict[tuple[str, tuple[int, ...]], list[Entry]] = {}
    for entry in made.entries:
        if entry.leaf is not None:
            groups.setdefault((entry.kind, entry.shape), []).append(entry)
    work = sum(entry.shape[0] * entry.shape[1] for group in groups.values() for entry in group)
    ready, done = dict[str, NDArray[Any]](), 0.0
    for (kind, (rows, columns)), group in groups.items():
        size = max(1, BATCH_BYTES // (12 * columns * (rows + columns)))
        for start in range(0, len(group), size):
            batch = group[start : start + size]
            share = len(batch) * rows * columns / work
            for entry, data in zip(batch, (yield from scaled(_batch(batch, kind, facts), done, share)), strict=True):
                ready[entry.name] = np.ascontiguousarray(entry.order(data))
            done += share
    entries = [
        replace(entry, data=_given(ready[entry.name])) if entry.name in ready else entry for entry in made.entries
    ]
    return replace(made, entries=tuple(entries))


def _given(data: T) -> Callable[[], T]:
    return lambda: data


def _batch(batch: Sequence[Entry], kind: str, facts: Facts) -> Generator[float, None, list[NDArray[Any]]]:
    """The matrices' bytes."""
    leaves = [entry.leaf for entry in batch if entry.leaf is not None]
    if kind in PLAIN.values():
        return [plain(leaf.matrix(), kind) for leaf in leaves]
    found: dict[int, tuple[Tensor, Ranges]] = {}
    known = [place for place, leaf in enumerate(leaves) if facts.calibrated(_layer(leaf))]
    if known:
        grams = [facts.felt_gram(_layer(leaves[place])) for place in known]
        weights = torch.stack([leaves[place].matrix().float() for place in known])
        held = [gram.to(weights.device, torch.float32) for gram in grams if gram is not None]
        found = dict(zip(known, (yield from superblocks.rounded(weights, held, KINDS[kind])), strict=True))
    for place in set(range(len(leaves))) - {*found}:
        weight = leaves[place].matrix().float()
        ranges = superblocks.search(weight, KINDS[kind])
        found[place] = superblocks.nearest(weight, ranges), ranges
        yield len(found) / len(leaves)
    return [packed(*found[place], kind) for place in range(len(leaves))]


def _layer(leaf: Leaf) -> str:
    return leaf.name.removesuffix(".weight")


def in_words(made: GgufFile) -> tuple[str, list[str]]:
    """What the types keep of matrices, and what becomes otherwise."""
    kinds: Counter[str] = Counter()
    standing: Counter[str] = Counter()
    for entry in made.entries:
        if entry.leaf is not None:
            kinds[entry.kind] += 1
            standing[entry.kind] += entry.shape[1] % SUPER != 0
    asked = sorted(kinds.items(), key=lambda each: -each[1])
    rounds = [f"{_many(sum(kinds.values()))} rounded for {made.mix}: " + _list(asked)]
    if sum(standing.values()):
        other = _list((kind, count) for kind, count in standing.items() if count)
        rounds.append(
            f"rows of {_many(sum(standing.values()))} are no whole super-blocks of {SUPER} ({other} stand in)"
        )
    return "norms and biases", rounds


def _list(counted: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count} as {kind}" for kind, count in counted)


def _many(count: int) -> str:
    return f"{count} {'matrix' if count == 1 else 'matrices'}"
