"""The parts of a model by llama.cpp's names, which the gguf package knows, each turned as its families want it."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explorer.formats.gguf_blocks import bytes_of, encoded, plain, type_of
from explorer.formats.leaves import Leaf, Structure

Rows = Callable[[Any], Any]  # another order of rows, of numbers or of encoded rows
GAINS_FROM_ONE = ("gemma2", "gemma3", "nemotron")  # norms that multiply by 1 + weight
IN_FLOAT32 = ("ffn_gate_inp", "position_embd", "ssm_", "shortconv.conv")  # llama.cpp asks for it
LINEAR_STATES = ("ssm_in", "ssm_x", "ssm_out", "ssm_dt")  # but these are products like others


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """One tensor of the file: name, shape in rows and columns, ggml type, bytes, and how its data come; of a matrix its
    leaf, and in which order the file has the leaf's rows."""

    name: str
    shape: tuple[int, ...]
    kind: str
    bytes: int
    data: Callable[[], NDArray[np.generic]]
    leaf: Leaf | None = None
    order: Rows = lambda rows: rows


def entries(structure: Structure, family: str, config: Any, body: str) -> Iterator[Entry]:
    """`body`: the name, with a dot behind it, of the part that reads text. ValueError for a part without a name."""
    text = config.get_text_config()
    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == family)
    names = gguf.get_tensor_name_map(arch, text.num_hidden_layers)
    for leaf in structure.leaves:
        whole = leaf.name
        if body.endswith("language_model."):  # of a model with other senses: they stay behind
            if not whole.startswith(body) and not whole.startswith("lm_head"):
                continue
            whole = whole.replace(body, "model.", 1)
        if leaf.parts and whole.endswith("gate_up_proj") or whole.endswith("experts.gate_up_proj"):
            yield from _halves(leaf, whole)
            continue
        name = _expert(whole) or _named(names, whole)
        if name is None:
            raise ValueError(
                f"llama.cpp's {family} has no place for {leaf.name}, so this model is not written as GGUF."
            )
        yield _entry(leaf, name, family, text)


def _entry(leaf: Leaf, name: str, family: str, text: Any) -> Entry:
    order = _order(name, family, text)
    state = any(f".{word}." in name for word in LINEAR_STATES)
    single = any(word in name for word in IN_FLOAT32) and not state
    if len(leaf.shape) < 2 or single or name.endswith("_norm.weight") or not name.endswith(".weight"):
        change = _change(leaf, name, family)
        shape = tuple(change(torch.empty(leaf.shape, device="meta")).shape)
        numbers = lambda: np.ascontiguousarray(order(plain(change(leaf.matrix().float()), "F32")))  # noqa: E731
        return Entry(name=name, shape=shape, kind="F32", bytes=4 * math.prod(shape), data=numbers)
    kind = type_of(leaf)
    rows = lambda: np.ascontiguousarray(order(encoded(leaf, kind)))  # noqa: E731
    count = bytes_of(leaf, kind)
    return Entry(name=name, shape=leaf.shape, kind=kind, bytes=count, data=rows, leaf=leaf, order=order)


def _named(names: Any, name: str) -> str | None:
    bare, _, suffix = name.rpartition(".")
    if suffix not in ("weight", "bias"):
        return names.get_name(name)  # type: ignore[no-any-return]
    known = names.get_name(bare) or names.get_name(bare.removeprefix("transformer."))
    return f"{known}.{suffix}" if known else None


def _expert(name: str) -> str | None:
    found = re.fullmatch(r"model\.layers\.(\d+)\.mlp\.experts\.down_proj", name)
    return found and f"blk.{found[1]}.ffn_down_exps.weight"


def _halves(leaf: Leaf, name: str) -> Iterator[Entry]:
    """Gate and up of all experts, which lie below one another here."""
    block = name.split(".")[2]
    experts, rows, columns = leaf.shape
    kind = type_of(leaf)
    for place, half in enumerate(("gate", "up")):

        def data(start: int = place * rows // 2) -> NDArray[np.generic]:
            return np.ascontiguousarray(encoded(leaf, kind)[:, start : start + rows // 2])

        shape, count = (experts, rows // 2, columns), bytes_of(leaf, kind) // 2
        yield Entry(
            name=f"blk.{block}.ffn_{half}_exps.weight", shape=shape, kind=kind, bytes=count, data=data, leaf=leaf
        )


def _order(name: str, family: str, text: Any) -> Rows:
    """Where llama.cpp's rows lie otherwise: Llama's halves of a head alternate, BLOOM's three are apart."""
    heads = getattr(text, "num_attention_heads", 1)
    if family == "llama" and re.search(r"\.attn_[qk]\.", name):
        count = heads if ".attn_q." in name else text.num_key_value_heads
        return lambda w: w.reshape(count, 2, len(w) // count // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)
    if family == "bloom" and "attn_qkv" in name:
        return lambda w: w.reshape(heads, 3, -1, *w.shape[1:]).swapaxes(0, 1).reshape(w.shape)
    return lambda w: w


def _change(leaf: Leaf, name: str, family: str) -> Callable[[Tensor], Tensor]:
    """What a tensor of single numbers becomes."""
    if family in GAINS_FROM_ONE and name.endswith("norm.weight"):
        return lambda w: w + 1
    if "conv" in name and len(leaf.shape) == 3:
        return lambda w: w.squeeze(1)
    if name.endswith("ssm_a"):
        return lambda w: -w.exp()
    if "gate_inp_shexp" in name:
        return lambda w: w.squeeze(0)
    return lambda w: w
