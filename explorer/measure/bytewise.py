"""Bits per byte: how well any model predicts a text, whatever its tokenizer cuts the text into.

−log₂ p of a text over its bytes in UTF-8, the measure of Gao et al. (The Pile, arXiv 2101.00027, §3.1). Texts are cut
into the same pieces for all models; the first word of a piece is given and not counted, so it does not matter what a
tokenizer puts before a text.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from explorer.layers.linear import device_of
from explorer.measure.intervals import Blocks
from explorer.measure.quality import in_turn
from explorer.values.reading import Reading

LONGEST = 1000  # bytes of a piece
LATEST = 32  # characters within which a first word must end; where words are longer, or not parted, so many are given


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of a text: `text` is the text's number, and the first `given` characters are not counted."""

    text: int
    words: str
    given: int

    @property
    def counted(self) -> int:
        """Bytes that are predicted."""
        return len(self.words[self.given :].encode())


def pieces(texts: Mapping[str, Sequence[str]], least: int, longest: int = LONGEST) -> list[Piece]:
    """The texts in pieces of at most `longest` bytes, all kinds in turn, until `least` bytes are counted, or all."""
    kinds, number = list[list[Piece]](), 0
    for group in texts.values():
        kinds.append([])
        for text in group:
            cut = (Piece(text=number, words=words, given=_given(words)) for words in _cut(text, longest))
            kinds[-1] += [piece for piece in cut if piece.counted]
            number += 1
    chosen, counted = list[Piece](), 0
    for piece in in_turn(kinds):
        if counted >= least:
            break
        chosen.append(piece)
        counted += piece.counted
    return chosen


def _cut(text: str, longest: int) -> list[str]:
    """In pieces that end before a space where there is one."""
    found = []
    while text:
        part = text.encode()[:longest].decode(errors="ignore")
        if len(part) < len(text):
            part = part[: part.rfind(" ")] if part.rfind(" ") > len(part) // 2 else part
        found.append(part)
        text = text[len(part) :]
    return found


def _given(words: str) -> int:
    """Characters of the first word, with the spaces before it."""
    start = len(words) - len(words.lstrip())
    end = next((i for i in range(start, min(len(words), start + LATEST)) if words[i].isspace()), start + LATEST)
    return min(end, len(words))


@torch.inference_mode()
def nats_of(model: nn.Module, tokenizer: Any, piece: Piece) -> float:
    """−ln p of what is counted of a piece: of all tokens that end behind what is given. ∞ where the model's output is
    not a number; ValueError for a tokenizer that does not tell where its tokens are."""
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError("This tokenizer does not tell which bytes its tokens are, so bits per byte cannot be counted.")
    encoded = tokenizer(piece.words, return_offsets_mapping=True)
    ids = torch.tensor([encoded["input_ids"]], device=device_of(model))
    counted = torch.tensor([end > piece.given for _, end in encoded["offset_mapping"]][1:])
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1][counted.to(ids.device)].float()
    if not torch.isfinite(logits).all():
        return math.inf
    told = ids[0, 1:][counted.to(ids.device)]
    return -float(logits.log_softmax(-1).gather(1, told[:, None]).double().sum())


def bits_per_byte(found: Sequence[Piece], nats: Sequence[float]) -> Reading:
    """Mean over all counted bytes, with a 95 % interval that takes texts as what was drawn."""
    blocks, each = _by_text(found, nats)
    return blocks.mean(each, "bits/byte", positive=True)


def difference(found: Sequence[Piece], one: Sequence[float], other: Sequence[float]) -> Reading:
    """Bits per byte of `one` less those of `other` on the same pieces; the interval is paired."""
    blocks, each = _by_text(found, [a - b for a, b in zip(one, other, strict=True)])
    return blocks.mean(each, "bits/byte")


def _by_text(found: Sequence[Piece], nats: Sequence[float]) -> tuple[Blocks, Any]:
    """Bits of each byte, (bytes,), the pieces of one text together."""
    order = sorted(range(len(found)), key=lambda i: found[i].text)
    sizes: dict[int, int] = {}
    for i in order:
        sizes[found[i].text] = sizes.get(found[i].text, 0) + found[i].counted
    bits = [np.full(found[i].counted, nats[i] / math.log(2) / found[i].counted) for i in order]
    return Blocks(list(sizes.values())), np.concatenate(bits)
