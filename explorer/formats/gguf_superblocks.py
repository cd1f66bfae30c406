"""Codes and ranges as the bytes of ggml's block types: layouts of block_q2_K … block_q6_K, block_q4_0 … block_q8_0 in
ggml-common.h, which gguf/quants.py decodes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from explorer.methods.superblocks import KINDS, Ranges

Bytes = NDArray[Any]  # uint8


def packed(codes: Tensor, ranges: Ranges, name: str) -> Bytes:
    """(rows, bytes) of codes (rows, columns) in the type of this name."""
    kind, rows = KINDS[name], len(codes)
    assert kind == ranges.kind
    blocks = codes.cpu().numpy().reshape(-1, kind.span)
    scale = _halves(ranges.scale)
    low = np.empty((len(blocks), 0), np.uint8) if ranges.low is None else _halves(ranges.low)
    if kind.least is None:
        low = low if ranges.low is None else _halves(-ranges.low)  # these add it
        return np.concatenate([scale, low, OLDER[name](blocks)], -1).reshape(rows, -1)
    scales = ranges.scales.cpu().numpy().reshape(len(blocks), -1)
    lows = None if ranges.lows is None else ranges.lows.cpu().numpy().reshape(len(blocks), -1)
    parts: Sequence[Bytes] = NEWER[name](blocks, scales, lows, scale, low)
    return np.concatenate(parts, -1).reshape(rows, -1)


def _halves(numbers: Tensor) -> Bytes:
    """(blocks, 2)."""
    return np.ascontiguousarray(numbers.cpu().numpy()).reshape(-1, 1).view(np.uint8)


def _nibbles(codes: Bytes) -> Bytes:
    """Of 32 neighbours, the first sixteen in the lower halves."""
    return codes[:, :16] & 15 | codes[:, 16:] << 4


def _fives(codes: Bytes) -> Bytes:
    return np.concatenate([np.packbits(codes >> 4, axis=-1, bitorder="little"), _nibbles(codes)], -1)


def _spread(codes: Bytes, span: int, bits: int) -> Bytes:
    """Stretches of 32 or 64 codes over one another, `bits` each, the first lowest, within every `span` codes."""
    many = 8 // bits
    parts = codes.reshape(len(codes), -1, many, span // many) << (bits * np.arange(many, dtype=np.uint8))[:, None]
    found: Bytes = np.bitwise_or.reduce(parts.astype(np.uint8), 2)
    return found.reshape(len(codes), -1)


def _sixes(scales: NDArray[np.int16], lows: NDArray[np.int16]) -> Bytes:
    """Eight scales and eight least values of 6 bits in twelve bytes (get_scale_min_k4)."""
    one, other = scales.astype(np.uint8), lows.astype(np.uint8)
    first = one[:, :4] | (one[:, 4:] >> 4) << 6
    second = other[:, :4] | (other[:, 4:] >> 4) << 6
    return np.concatenate([first, second, one[:, 4:] & 15 | other[:, 4:] << 4], -1)


def _q2_k(
    codes: Bytes, scales: NDArray[np.int16], lows: NDArray[np.int16], scale: Bytes, low: Bytes
) -> Sequence[Bytes]:
    return (scales | lows << 4).astype(np.uint8), _spread(codes, 128, 2), scale, low


def _q3_k(codes: Bytes, scales: NDArray[np.int16], _: None, scale: Bytes, __: Bytes) -> Sequence[Bytes]:
    """The third bit of each code by itself, and sixteen scales of 6 bits in twelve bytes."""
    signed = (scales + 32).astype(np.uint8)
    lower = signed[:, :8] & 15 | (signed[:, 8:] & 15) << 4
    upper = np.bitwise_or.reduce((signed >> 4).reshape(-1, 4, 4) << np.array([[0], [2], [4], [6]], np.uint8), 1)
    return _spread(codes >> 2, 256, 1), _spread(codes & 3, 128, 2), lower, upper, scale


def _q4_k(
    codes: Bytes, scales: NDArray[np.int16], lows: NDArray[np.int16], scale: Bytes, low: Bytes
) -> Sequence[Bytes]:
    return scale, low, _sixes(scales, lows), _spread(codes, 64, 4)


def _q5_k(
    codes: Bytes, scales: NDArray[np.int16], lows: NDArray[np.int16], scale: Bytes, low: Bytes
) -> Sequence[Bytes]:
    return scale, low, _sixes(scales, lows), _spread(codes >> 4, 256, 1), _spread(codes & 15, 64, 4)


def _q6_k(codes: Bytes, scales: NDArray[np.int16], _: None, scale: Bytes, __: Bytes) -> Sequence[Bytes]:
    return _spread(codes & 15, 128, 4), _spread(codes >> 4, 128, 2), scales.astype(np.int8).view(np.uint8), scale


OLDER: dict[str, Callable[[Bytes], Bytes]] = {
    "Q4_0": _nibbles,
    "Q4_1": _nibbles,
    "Q5_0": _fives,
    "Q5_1": _fives,
    "Q8_0": lambda codes: codes - np.uint8(127),
}
NEWER: dict[str, Callable[..., Sequence[Bytes]]] = {
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
