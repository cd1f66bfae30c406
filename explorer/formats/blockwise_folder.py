"""nf4, fp4 and int8 under the names that transformers' save_pretrained gives what bitsandbytes stores."""

import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from explorer.formats.folders import Folder, Piece, layers_left, plain_piece
from explorer.formats.leaves import Leaf, Structure
from explorer.formats.packed_folder import ends_of
from explorer.layers import blockwise
from explorer.layers.linear import CompressedLinear
from explorer.layers.storage import BitsAndBytes


def blockwise_folder(structure: Structure, model: nn.Module) -> Folder:
    """ValueError where nothing is stored by bitsandbytes."""
    ends = ends_of(model)
    chosen = [leaf for leaf in structure.leaves if leaf.name not in ends and _fits(leaf)]
    if not chosen:
        raise ValueError("bitsandbytes holds nf4, fp4 and int8 only, and no layer of this setting is stored so.")
    names, pieces = {leaf.name for leaf in chosen}, list[Piece]()
    for leaf in structure.leaves:
        pieces += _stored(leaf) if leaf.name in names else [plain_piece(leaf)]
    stored: Any = chosen[0].stored
    said = _config(stored.spec.format, stored.spec.double, stored.dtype) | {
        "llm_int8_skip_modules": layers_left(structure, chosen, model)
    }
    return Folder(pieces=tuple(pieces), quantization=said, tied=structure.tied)


def _fits(leaf: Leaf) -> bool:
    """The library's blocks run on from row to row: ours are the same where rows are whole blocks."""
    stored = leaf.stored
    linear = isinstance(leaf.layer, CompressedLinear) and not leaf.transposed
    if not linear or not isinstance(stored, BitsAndBytes):
        return False
    return stored.spec.format == "int8" or stored.shape[1] % blockwise.BLOCK == 0


def _stored(leaf: Leaf) -> Iterator[Piece]:
    stored: Any = leaf.stored
    rows, columns = stored.shape
    if stored.spec.format == "int8":
        owner = leaf.name.removesuffix(".weight")
        yield Piece(name=leaf.name, shape=(rows, columns), dtype=torch.int8, data=lambda: stored.packed)
        yield Piece(name=f"{owner}.SCB", shape=(rows,), dtype=torch.float32, data=lambda: stored.absmax.view(-1))
        yield Piece(
            name=f"{owner}.weight_format", shape=(), dtype=torch.uint8, data=lambda: torch.tensor(0, dtype=torch.uint8)
        )
        return
    count, double = rows * columns, stored.spec.double
    blocks, kind = count // blockwise.BLOCK, torch.uint8 if double else torch.float32
    yield Piece(name=leaf.name, shape=(count // 2, 1), dtype=torch.uint8, data=lambda: stored.packed.view(-1, 1))
    yield Piece(name=f"{leaf.name}.absmax", shape=(blocks,), dtype=kind, data=lambda: stored.absmax.reshape(-1))
    yield Piece(name=f"{leaf.name}.quant_map", shape=(16,), dtype=torch.float32, data=lambda: _book(stored))
    about: dict[str, Any] = {"quant_type": stored.spec.format, "blocksize": blockwise.BLOCK}
    about |= {"dtype": str(stored.dtype).removeprefix("torch."), "shape": [rows, columns]}
    if double:
        nested = -(-blocks // blockwise.NESTED_BLOCK)
        yield Piece(name=f"{leaf.name}.nested_absmax", shape=(nested,), dtype=torch.float32, data=lambda: stored.nested)
        yield Piece(name=f"{leaf.name}.nested_quant_map", shape=(256,), dtype=torch.float32, data=lambda: stored.book)
        about |= {"nested_blocksize": blockwise.NESTED_BLOCK, "nested_dtype": "float32"}
    name = f"{leaf.name}.quant_state.bitsandbytes__{stored.spec.format}"
    yield Piece(
        name=name, shape=(STATE,), dtype=torch.uint8, data=lambda: _state(about, stored.offset if double else None)
    )


STATE = 192  # bytes of the text that tells a quantized weight's state, filled up with spaces so that sizes can be told


def _state(about: dict[str, Any], offset: Tensor | None) -> Tensor:
    text = json.dumps(about if offset is None else about | {"nested_offset": float(offset)})
    return torch.tensor(list(text.encode().ljust(STATE)), dtype=torch.uint8)


def _book(stored: Any) -> Tensor:
    found: Tensor = blockwise.library().functional.get_4bit_type(stored.spec.format, device="cpu")
    return found


def _config(kind: str, double: bool, dtype: torch.dtype) -> dict[str, Any]:
    eight = kind == "int8"
    found: dict[str, Any] = {"quant_method": "bitsandbytes", "load_in_8bit": eight, "load_in_4bit": not eight}
    found |= {"llm_int8_threshold": 6.0, "llm_int8_has_fp16_weight": False}
    if eight:
        return found
    found |= {"bnb_4bit_quant_type": kind, "bnb_4bit_use_double_quant": double, "bnb_4bit_quant_storage": "uint8"}
    return found | {"bnb_4bit_compute_dtype": str(dtype).removeprefix("torch.")}
