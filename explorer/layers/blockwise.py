"""What bitsandbytes stores, on plain tensors: nf4 and fp4 (Dettmers et al., QLoRA, arXiv 2305.14314, §3) in blocks of
64 weights with an absmax each, int8 (LLM.int8(), arXiv 2208.07339, §2) with an absmax a row.

nf4, fp4: packed (rows, blocks · 32) uint8, two codes a byte, rows filled up to whole blocks with zeros; absmax (rows,
blocks) float32. With double quantization absmax is uint8 codes, and an absmax is book[code] · nested[place // 256] +
offset: book (256,), nested (⌈rows · blocks / 256⌉,), offset (1,), float32. int8: packed (rows, columns) int8; absmax
(rows, 1) float32.
"""

import importlib
import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor

BITS = {"nf4": 4, "fp4": 4, "int8": 8}
BLOCK, NESTED_BLOCK = 64, 256  # weights that share an absmax, absmaxes that share one of their own
LARGEST = 65504.0  # the library makes int8 from float16 only


@cache
def library() -> Any:
    """bitsandbytes, imported when it is first needed (it takes seconds) and told not to log what is by design."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    return importlib.import_module("bitsandbytes")


def quantize(weight: Tensor, format: str, double: bool = False) -> dict[str, Tensor]:
    """(rows, columns) weights, 16 or 32 bits a float → the tensors that are stored, by name."""
    rows, columns = weight.shape
    if format == "int8":
        half = weight.clamp(-LARGEST, LARGEST).to(torch.float16)
        codes, absmax, _ = library().functional.int8_vectorwise_quant(half)
        return {"packed": codes, "absmax": absmax.view(rows, 1)}
    filled = torch.nn.functional.pad(weight, (0, -columns % BLOCK)).contiguous()
    packed, state = library().functional.quantize_4bit(
        filled, blocksize=BLOCK, quant_type=format, compress_statistics=double
    )
    stored = {"packed": packed.view(rows, -1), "absmax": state.absmax.view(rows, -1)}
    if double:
        stored |= {"book": state.state2.code, "nested": state.state2.absmax, "offset": state.offset.view(1)}
    return stored


def shapes(
    rows: int, columns: int, format: str, double: bool = False
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and dtype of each tensor that `quantize` gives, without the library."""
    if format == "int8":
        return {"packed": ((rows, columns), torch.int8), "absmax": ((rows, 1), torch.float32)}
    blocks = -(-columns // BLOCK)
    packed = ((rows, blocks * BLOCK // 2), torch.uint8)
    if not double:
        return {"packed": packed, "absmax": ((rows, blocks), torch.float32)}
    return {
        "packed": packed,
        "absmax": ((rows, blocks), torch.uint8),
        "book": ((256,), torch.float32),
        "nested": ((-(-rows * blocks // NESTED_BLOCK),), torch.float32),
        "offset": ((1,), torch.float32),
    }


def scales(stored: dict[str, Tensor], index: Tensor | None = None) -> Tensor:
    """The absmaxes of all rows, or of those in `index` (n,): (n, blocks) float32."""
    codes = stored["absmax"] if index is None else stored["absmax"][index]
    if "book" not in stored:
        return codes
    blocks = codes.shape[1]
    rows = torch.arange(codes.shape[0], device=codes.device) if index is None else index
    places = rows[:, None] * blocks + torch.arange(blocks, device=codes.device)
    return stored["book"][codes.int()] * stored["nested"][places // NESTED_BLOCK] + stored["offset"]


def dequantize(packed: Tensor, absmax: Tensor, format: str, columns: int, dtype: torch.dtype) -> Tensor:
    """Packed rows and their absmaxes from `scales` → weights (rows, columns)."""
    if format == "int8":
        return (packed * (absmax / 127)).to(dtype)
    state = quant_state(packed, absmax, format, dtype)
    weights: Tensor = library().functional.dequantize_4bit(packed.view(-1, 1), state)
    return weights[:, :columns]


def quant_state(packed: Tensor, absmax: Tensor, format: str, dtype: torch.dtype) -> Any:
    """What bitsandbytes wants to know of packed 4-bit rows besides their codes; `absmax` from `scales`."""
    functional = library().functional
    return functional.QuantState(
        absmax=absmax.reshape(-1),
        shape=torch.Size((packed.shape[0], packed.shape[1] * 2)),
        code=functional.get_4bit_type(format, device=packed.device),
        blocksize=BLOCK,
        quant_type=format,
        dtype=dtype,
    )
