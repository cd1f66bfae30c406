"""Folders that transformers opens: config, tokenizer, generation config and one safetensors file, whose bytes are told
from shapes alone."""

import copy
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from explorer.formats.leaves import Leaf, Structure
from explorer.model.disk import save_tensors

WEIGHTS = "model.safetensors"
NAMES = {  # in the order in which safetensors' files hold them
    torch.int64: "I64", torch.float64: "F64", torch.float32: "F32", torch.int32: "I32", torch.bfloat16: "BF16",
    torch.float16: "F16", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """One tensor of the file, and how its numbers come."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    data: Callable[[], Tensor]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What will be in the folder: pieces of the file, and what the config says of how they are stored."""

    pieces: tuple[Piece, ...]
    quantization: Mapping[str, Any] | None
    tied: bool

    @property
    def bytes(self) -> int:
        """Of the whole safetensors file: eight bytes, a header in JSON filled up to eight, and the numbers."""
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        at, order = 0, list(NAMES)
        for piece in sorted(self.pieces, key=lambda each: (order.index(each.dtype), each.name)):
            places = [at, at + piece.bytes]
            at += piece.bytes
            header[piece.name] = {"dtype": NAMES[piece.dtype], "shape": list(piece.shape), "data_offsets": places}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        return 8 + -(-len(text) // 8) * 8 + at

    def write(self, folder: Path, model: nn.Module, tokenizer: Any) -> Iterator[float]:
        """Into an empty folder; yields the share done."""
        tensors = dict[str, Tensor]()
        for place, piece in enumerate(self.pieces):
            found = piece.data().detach().to(piece.dtype).cpu().contiguous()
            if tuple(found.shape) != piece.shape:
                raise ValueError(f"{piece.name} became {tuple(found.shape)}, not the {piece.shape} that was told.")
            tensors[piece.name] = found
            yield 0.9 * (place + 1) / len(self.pieces)
        save_tensors(tensors, folder / WEIGHTS, {"format": "pt"})
        (folder / WEIGHTS).chmod(0o644)
        config: Any = copy.deepcopy(model.config)
        if not self.tied:
            for part in {id(part): part for part in (config, config.get_text_config())}.values():
                part.tie_word_embeddings = False
        config.save_pretrained(folder)
        if self.quantization is not None:
            said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            write_json(folder / "config.json", said | {"quantization_config": dict(self.quantization)})
        if getattr(model, "generation_config", None) is not None:  # its end tokens, above all
            write_json(folder / "generation_config.json", model.generation_config.to_diff_dict())  # type: ignore[union-attr, operator]
        tokenizer.save_pretrained(folder)
        yield 1.0


def write_json(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def plain_folder(structure: Structure) -> Folder:
    """All tensors decoded, in the original's dtype."""
    return Folder(pieces=tuple(map(plain_piece, structure.leaves)), quantization=None, tied=structure.tied)


def plain_piece(leaf: Leaf) -> Piece:
    shape = (*leaf.shape[:-2], *leaf.shape[-2:][::-1]) if leaf.transposed else leaf.shape
    data = (lambda: leaf.matrix().transpose(-1, -2)) if leaf.transposed else leaf.matrix
    return Piece(name=leaf.name, shape=shape, dtype=leaf.dtype, data=data)


def layers_left(structure: Structure, chosen: Sequence[Leaf], model: nn.Module) -> list[str]:
    """Names of linear layers that are not among those chosen, which a config has to name."""
    stored = {leaf.name.removesuffix(".weight") for leaf in chosen}
    matrices: Iterable[Leaf] = (
        leaf for leaf in structure.leaves if len(leaf.shape) == 2 and leaf.name.endswith(".weight")
    )
    table = next((name for name, m in model.named_modules() if m is model.get_input_embeddings()), "")  # type: ignore[operator]
    head = next((name for name, m in model.named_modules() if m is model.get_output_embeddings()), "")  # type: ignore[operator]
    names = [leaf.name.removesuffix(".weight") for leaf in matrices]
    return [name for name in dict.fromkeys([*names, head]) if name and name not in stored and name != table]
