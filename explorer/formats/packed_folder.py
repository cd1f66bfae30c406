"""compressed-tensors' pack-quantized: 4- and 8-bit codes in words of 32 bits with a scale and a zero a group, as vLLM,
SGLang and transformers open them (github.com/vllm-project/compressed-tensors). Head and embedding stay dense, since
vLLM refuses others."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from explorer.formats.folders import Folder, Piece, layers_left, plain_piece
from explorer.formats.leaves import Leaf, Structure
from explorer.layers.linear import CompressedLinear
from explorer.layers.storage import Quantized

WORD = 32


def width_of(leaf: Leaf, ends: frozenset[str]) -> int:
    """Bits that its codes leave in; 0 where it leaves dense. `ends`: names of embedding and head."""
    stored = leaf.stored
    if not isinstance(stored, Quantized) or not isinstance(leaf.layer, CompressedLinear) or leaf.transposed:
        return 0
    whole = stored.groups == 1 or stored.shape[1] % stored.group == 0
    return 0 if leaf.name in ends or not whole else 4 if stored.bits <= 4 else 8


def packed_folder(structure: Structure, model: nn.Module) -> Folder:
    """Codes of 2 to 4 bits leave in 4, those of 5 to 8 in 8. ValueError where nothing has codes."""
    ends = ends_of(model)
    chosen = {leaf.name: width for leaf in structure.leaves if (width := width_of(leaf, ends))}
    if not chosen:
        raise ValueError("compressed-tensors holds codes of 2 to 8 bits, and no layer of this setting has such alone.")
    pieces = list[Piece]()
    kinds = dict[tuple[int, int], list[str]]()
    stores: list[Any] = [leaf.stored for leaf in structure.leaves if leaf.name in chosen]
    rows = all(stored.groups == 1 for stored in stores)  # else a row that is one group is one of that size
    for leaf in structure.leaves:
        if leaf.name not in chosen:
            pieces.append(plain_piece(leaf))
            continue
        stored: Any = leaf.stored
        group = 0 if rows else stored.group
        kinds.setdefault((chosen[leaf.name], group), []).append(leaf.name.removesuffix(".weight"))
        pieces += _packed(leaf.name.removesuffix(".weight"), stored, chosen[leaf.name])
    left = layers_left(structure, [leaf for leaf in structure.leaves if leaf.name in chosen], model)
    return Folder(pieces=tuple(pieces), quantization=_config(kinds, left), tied=structure.tied)


def ends_of(model: nn.Module) -> frozenset[str]:
    """Names of the weights of embedding and head."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())  # type: ignore[operator]
    return frozenset(f"{name}.weight" for name, m in model.named_modules() if any(m is end for end in ends))


def _packed(name: str, stored: Quantized, bits: int) -> Iterator[Piece]:
    rows, columns = stored.shape
    words, zero_words = -(-columns * bits // WORD), -(-rows * bits // WORD)

    def zeros() -> Tensor:
        return words_of(stored.zeros().T, bits).T

    yield Piece(
        name=f"{name}.weight_packed",
        shape=(rows, words),
        dtype=torch.int32,
        data=lambda: words_of(stored.codes(), bits),
    )
    yield Piece(name=f"{name}.weight_scale", shape=(rows, stored.groups), dtype=stored.dtype, data=lambda: stored.scale)
    yield Piece(name=f"{name}.weight_zero_point", shape=(zero_words, stored.groups), dtype=torch.int32, data=zeros)
    yield Piece(name=f"{name}.weight_shape", shape=(2,), dtype=torch.int64, data=lambda: torch.tensor([rows, columns]))


def words_of(codes: Tensor, bits: int) -> Tensor:
    """(rows, columns) codes → (rows, words) int32, the first code in the lowest bits; bits 4 or 8."""
    rows, columns = codes.shape
    whole = torch.nn.functional.pad(codes, (0, -columns % (WORD // bits))).contiguous()
    if bits == 4:
        pairs = whole.view(rows, -1, 2)
        whole = pairs[..., 0] | pairs[..., 1] << 4
    return whole.reshape(-1).view(torch.int32).view(rows, -1)


def _config(kinds: dict[tuple[int, int], list[str]], left: list[str]) -> dict[str, Any]:
    groups = dict[str, dict[str, Any]]()
    for place, ((bits, group), names) in enumerate(kinds.items()):
        weights: dict[str, Any] = {
            "num_bits": bits,
            "type": "int",
            "symmetric": False,
            "dynamic": False,
            "actorder": None,
        }
        weights |= {"strategy": "group", "group_size": group} if group else {"strategy": "channel", "group_size": None}
        targets = ["Linear"] if len(kinds) == 1 else names
        groups[f"group_{place}"] = {"targets": targets, "weights": weights, "input_activations": None}
        groups[f"group_{place}"] |= {"output_activations": None, "format": "pack-quantized"}
    # Without it transformers 5.24 with compressed-tensors 0.20 looks for zeros in another shape, and with it takes
    # every layer for one of the first group: so only where there is one.
    opened = {"dequantize": True} if len(kinds) == 1 else {}
    return opened | {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "global_compression_ratio": None,
        "kv_cache_scheme": None,
        "config_groups": groups,
        "ignore": left,
    }
