"""Weights in the blocks of ggml: 32 neighbours of a row with their scale. Codes stay what they are wherever a block can
hold them. The layouts are those of ggml's block_q4_1, block_q5_1 and block_q8_0 (gguf/quants.py decodes them)."""

import math
from typing import Any

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray
from torch import Tensor

from explorer.formats.leaves import Leaf
from explorer.layers.storage import BitsAndBytes, Quantized, Stored

BLOCK = 32
PLAIN = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
HOLDS = {2: "Q4_1", 3: "Q4_1", 4: "Q4_1", 5: "Q5_1", 6: "Q8_0", 7: "Q8_0", 8: "Q8_0"}  # bits of a code: what keeps it
TINY = 2.0**-24  # the least half precision number above 0


def type_of(leaf: Leaf) -> str:
    """The ggml type that a matrix leaves in; told by its shape and by how it is stored, not by its numbers."""
    if leaf.parts:
        kinds = {type_of(part) for part in leaf.parts}
        return kinds.pop() if len(kinds) == 1 else _plain(leaf)
    return _block_type(leaf.stored) or _plain(leaf)


def bytes_of(leaf: Leaf, kind: str) -> int:
    block, span = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return int(math.prod(leaf.shape) // block * span)


def encoded(leaf: Leaf, kind: str) -> NDArray[np.generic]:
    """The matrix as the file holds it: (…, rows, bytes) uint8 for blocks, else numbers (BF16 as uint8 too).

    OverflowError where a number does not fit the type.
    """
    if leaf.parts:
        return np.stack([encoded(part, kind) for part in leaf.parts])
    if kind in PLAIN.values():
        return plain(leaf.matrix(), kind)
    stored = leaf.stored
    assert stored is not None
    return _blocks(stored, kind)


def plain(matrix: Tensor, kind: str) -> NDArray[np.generic]:
    """Numbers of any shape in F32, F16 or BF16."""
    if kind == "BF16":
        return np.ascontiguousarray(matrix.detach().bfloat16().cpu().contiguous().view(torch.uint8).numpy())
    found = matrix.detach().to(torch.float16 if kind == "F16" else torch.float32).cpu()
    if kind == "F16" and not torch.isfinite(found).all():
        raise OverflowError("A weight is too large for half precision.")
    return np.ascontiguousarray(found.numpy())


def _plain(leaf: Leaf) -> str:
    """As it is; what was multiplied out in half precision, which keeps three bits more than bfloat16."""
    return PLAIN[leaf.dtype] if leaf.exact or leaf.dtype == torch.float32 else "F16"


def _block_type(stored: Stored | None) -> str:
    """'' where no block holds it: rows must be whole blocks, and a block must lie within one group."""
    if stored is None or stored.shape[1] % BLOCK:
        return ""
    if isinstance(stored, BitsAndBytes):
        return "Q8_0" if stored.spec.format == "int8" else ""
    whole = isinstance(stored, Quantized) and (stored.group % BLOCK == 0 or stored.groups == 1)
    return HOLDS[stored.bits] if whole and isinstance(stored, Quantized) else ""


def _blocks(stored: Stored, kind: str) -> NDArray[np.uint8]:
    """All rows as (rows, bytes)."""
    rows, blocks = stored.shape[0], stored.shape[1] // BLOCK
    if isinstance(stored, BitsAndBytes):
        scale = _numbers(stored.scales() / 127).astype(np.float16)
        return _q8_0(scale.repeat(blocks, 1), _numbers(stored.packed))
    assert isinstance(stored, Quantized)
    codes, zeros = map(_numbers, stored.at_hand())
    codes = codes.reshape(rows, blocks, BLOCK)
    places = np.arange(blocks) * BLOCK // stored.group
    scale, zero = _numbers(stored.scale)[:, places], zeros[:, places]
    if kind == "Q8_0":
        from_zero = codes.astype(np.int16) - zero[..., None]
        if stored.bits < 8:
            return _q8_0(scale, from_zero.astype(np.int8))
        values = from_zero * scale.astype(np.float32)[..., None]  # up to 255 steps away: blocks of their own range
        own = (np.abs(values).max(-1) / 127).astype(np.float16)
        steps = values / np.maximum(own.astype(np.float32), TINY)[..., None]
        return _q8_0(own, np.clip(np.rint(steps), -127, 127).astype(np.int8))
    least = (-scale.astype(np.float32) * zero).astype(np.float16)
    head = np.stack([scale, least], -1).view(np.uint8)  # (rows, blocks, 4)
    nibbles = codes[..., : BLOCK // 2] & 15 | codes[..., BLOCK // 2 :] << 4
    if kind == "Q4_1":
        return np.concatenate([head, nibbles], -1).reshape(rows, -1)
    fifth = np.packbits(codes >> 4 & 1, axis=-1, bitorder="little")
    return np.concatenate([head, fifth, nibbles], -1).reshape(rows, -1)


def _q8_0(scale: NDArray[np.float16], codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Scale (rows, blocks) and codes of as many weights."""
    rows, blocks = scale.shape
    head = np.ascontiguousarray(scale)[..., None].view(np.uint8)
    return np.concatenate([head, codes.reshape(rows, blocks, BLOCK).view(np.uint8)], -1).reshape(rows, -1)


def _numbers(tensor: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = tensor.detach().cpu().numpy()
    return found
