"""What bitsandbytes stored in a folder, decoded to plain tensors. In torch alone: the library's own decoder trusts the
sizes that a file names, and reads past the end where they are wrong."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

STATE = ".quant_state.bitsandbytes__"
PARTS = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map")  # of a 4-bit weight, behind its own name
INT8_PARTS = (".SCB", ".weight_format")  # of an 8-bit one, behind its layer's


def unpacked(folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors of a checked folder by name, the quantized ones decoded."""
    stored: dict[str, Tensor] = {}
    for file in _files(folder):
        stored |= load_file(file)
    found: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if STATE in name or name.endswith((*PARTS, *INT8_PARTS)):
            continue
        state = next((stored[name + STATE + kind] for kind in ("nf4", "fp4") if name + STATE + kind in stored), None)
        scale = stored.get(name.removesuffix(".weight") + ".SCB")
        if state is not None:
            tensor = four_bits(tensor, state, {part: stored.get(name + part) for part in PARTS}).to(dtype)
        elif scale is not None and tensor.dtype == torch.int8:
            if int(stored.get(name.removesuffix(".weight") + ".weight_format", torch.tensor(0))):
                raise ValueError(f"{name} is stored in the order of one kind of GPU")
            tensor = (tensor * (scale.float().view(len(tensor), 1) / 127)).to(dtype)
        found[name] = tensor
    return found


def four_bits(packed: Tensor, state: Tensor, parts: Mapping[str, Tensor | None]) -> Tensor:
    """Codes, two a byte, the higher half first; one absmax a block of weights in their order, itself in codes where
    there is a nested one → weights float32."""
    about: dict[str, Any] = json.loads(bytes(state.tolist()))
    book, absmax = parts[".quant_map"], parts[".absmax"]
    if book is None or absmax is None:
        raise ValueError("a 4-bit weight lacks its scales")
    nested, nested_book = parts[".nested_absmax"], parts[".nested_quant_map"]
    if nested is not None and nested_book is not None:
        each = nested.repeat_interleave(about["nested_blocksize"])[: len(absmax)]
        absmax = nested_book[absmax.long()] * each + about["nested_offset"]
    raw = packed.reshape(-1).view(torch.uint8)
    codes = torch.stack([raw >> 4, raw & 15], dim=1).view(-1)
    shape, size = torch.Size(about["shape"]), about["blocksize"]
    if not 0 <= len(codes) - shape.numel() <= 1 or not 0 < size <= 4096:
        raise ValueError("a 4-bit weight has another shape than it says")
    blocks = torch.nn.functional.pad(book.float()[codes.int()], (0, -len(codes) % size)).view(-1, size)
    if len(absmax) != len(blocks):
        raise ValueError("a 4-bit weight has too few scales")
    return (blocks * absmax.view(-1, 1)).view(-1)[: shape.numel()].view(shape)


def _files(folder: Path) -> list[Path]:
    """The files that the preflight checked."""
    single = folder / "model.safetensors"
    if single.exists():
        return [single]
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    return [folder / name for name in sorted(set(index["weight_map"].values()))]
