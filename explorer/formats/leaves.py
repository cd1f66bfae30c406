"""What a compressed model consists of by transformers' names, and how each part of it is multiplied: the one source for
every format that leaves. Parts know their shapes on the meta device too, so sizes are told before anything is made."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from explorer.layers.dense import Linear
from explorer.layers.experts import Stack
from explorer.layers.linear import CompressedEmbedding, CompressedLinear
from explorer.layers.rotated import RotatedNorm
from explorer.layers.storage import BitsAndBytes, Dense, Quantized, Sparse, Stored

Layer = CompressedLinear | CompressedEmbedding
Turn = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Leaf:
    """One tensor of a file: as it is (`tensor`), or a layer that keeps its weight otherwise, or the experts of a kind
    (`parts`). `turn` is what has to be done to a (rows, columns) float32 matrix of a rotated model.

    `transposed`: in its family's files it lies the other way round.
    """

    name: str
    tensor: Tensor | None = None
    layer: Layer | None = None
    parts: tuple["Leaf", ...] = ()
    turn: Turn | None = None
    transposed: bool = False

    @property
    def stored(self) -> Stored | None:
        """The one Stored that the layer multiplies by; None for what is as it was, or has to be multiplied out."""
        if self.turn is not None or self.layer is None:
            return None
        if isinstance(self.layer, CompressedEmbedding):
            return self.layer.stored
        return self.layer.stored()[0] if len(self.layer.stored()) == 1 and self.layer.input_scale is None else None

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns) of a matrix, as it is multiplied by; (experts, rows, columns) of several."""
        if self.parts:
            return len(self.parts), *self.parts[0].shape
        if isinstance(self.layer, CompressedEmbedding):
            return self.layer.stored.shape
        if self.layer is not None:
            return self.layer.out_features, self.layer.in_features
        assert self.tensor is not None
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        if self.parts:
            return self.parts[0].dtype
        if isinstance(self.layer, CompressedEmbedding):
            return self.layer.stored.dtype
        return self.layer.dtype if self.layer is not None else self.tensor.dtype  # type: ignore[union-attr]

    @property
    def exact(self) -> bool:
        """Whether `matrix()` in the model's dtype is what the model itself multiplies by."""
        if self.parts:
            return all(part.exact for part in self.parts)
        return self.turn is None and (self.tensor is not None or self.stored is not None)

    def matrix(self) -> Tensor:
        """The numbers, in `shape`: in the model's dtype where `exact`, else multiplied out in float32."""
        if self.parts:
            return torch.stack([part.matrix() for part in self.parts])
        if self.tensor is not None:
            return self.tensor.detach() if self.turn is None else self.turn(self.tensor.detach().float())
        if self.stored is not None:
            return self.stored.dense()
        assert self.layer is not None
        whole = self.layer.stored.dense() if isinstance(self.layer, CompressedEmbedding) else self.layer.decoded()
        return whole if self.turn is None else self.turn(whole.float())


@dataclass(frozen=True, kw_only=True)
class Structure:
    """A model's parts, and whether its head is the embedding."""

    leaves: tuple[Leaf, ...]
    tied: bool


def structure_of(model: nn.Module, base: nn.Module) -> Structure:
    """The parts of an unsettled model or skeleton, each once, in the model's order. `base` is the original: it knows
    which layers lie the other way round in its family's files."""
    turned = {name.rpartition(".")[2] for name, m in base.named_modules() if type(m) is Linear and m.transposed}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[operator]
    rotated = next((m for m in model.modules() if isinstance(m, RotatedNorm)), None)
    found = list(_leaves(model, turned))
    ends = {_name_of(model, embedding): _behind(rotated), _name_of(model, head): _before(rotated)} if rotated else {}
    names = {leaf.name for leaf in found}
    for name, turn in ends.items():
        if f"{name}.weight" not in names:  # a head that shared the table has one of its own now
            found.append(_leaf_of(model.get_submodule(name), f"{name}.weight"))
        found = [_with(leaf, turn) if leaf.name == f"{name}.weight" else leaf for leaf in found]
    tied = rotated is None and f"{_name_of(model, head)}.weight" not in {leaf.name for leaf in found}
    return Structure(leaves=tuple(found), tied=tied)


def _leaves(model: nn.Module, turned: Collection[str]) -> Iterator[Leaf]:
    inside, seen = "\0", set[object]()
    for name, module in model.named_modules():
        if name.startswith(inside):
            continue
        found: Iterator[tuple[object, Leaf]] = _own(name, module, name.rpartition(".")[2] in turned)
        if isinstance(module, Stack | Layer):
            inside = f"{name}."
        if isinstance(module, Stack):
            found = ((leaf.name, leaf) for leaf in _experts(name, module))
        for key, leaf in found:
            if key not in seen:
                yield leaf
            seen.add(key)


def _own(name: str, module: nn.Module, turned: bool) -> Iterator[tuple[object, Leaf]]:
    """What a module itself holds, by what would be the same thing elsewhere."""
    if isinstance(module, Layer):
        kept = [module.stored] if isinstance(module, CompressedEmbedding) else module.stored()
        yield tuple(map(id, kept)), Leaf(name=f"{name}.weight", layer=module, transposed=turned)
        if getattr(module, "bias", None) is not None:
            yield (id(module.bias),), Leaf(name=f"{name}.bias", tensor=module.bias)  # type: ignore[arg-type]
        return
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    for leaf, tensor in tensors:
        if leaf not in module._non_persistent_buffers_set and tensor.numel():
            gains = isinstance(module, RotatedNorm)  # they go into the head
            own = torch.ones_like(tensor) if gains else tensor.detach()
            key = f"{name}.{leaf}" if name else leaf
            yield (id(tensor),), Leaf(name=key, tensor=own, transposed=turned and leaf == "weight")


def _experts(name: str, stack: Any) -> Iterator[Leaf]:
    """Those of one kind together, as transformers has them."""
    if stack.whole is not None:
        yield from (Leaf(name=key, tensor=tensor) for key, tensor in stack.fused(name).items())
        return
    parts = tuple(_leaf_of(expert, f"{name}.{place}") for place, expert in enumerate(stack))
    yield Leaf(name=name, parts=parts, transposed=stack.transposed)
    if getattr(stack[0], "bias", None) is not None:
        yield Leaf(name=f"{name}_bias", tensor=torch.stack([expert.bias for expert in stack]))


def _leaf_of(module: nn.Module, name: str) -> Leaf:
    if isinstance(module, Layer):
        return Leaf(name=name, layer=module)
    return Leaf(name=name, tensor=module.weight.detach())  # type: ignore[union-attr, operator, arg-type]


def _name_of(model: nn.Module, module: Any) -> str:
    return next((name for name, m in model.named_modules() if m is module), "")


def _with(leaf: Leaf, turn: Turn) -> Leaf:
    return Leaf(name=leaf.name, tensor=leaf.tensor, layer=leaf.layer, turn=turn)


def _behind(norm: Any) -> Turn:
    """Words enter turned: E Q."""
    return lambda table: norm.rotation.rotate(table)  # type: ignore[no-any-return]


def _before(norm: Any) -> Turn:
    """The last norm's gains and the way back go into the head: W diag(g) Q."""
    return lambda head: norm.rotation.rotate(head * norm.weight.float())  # type: ignore[no-any-return]


def kind_of(stored: Stored | None) -> str:
    """What a Stored is in a word: codes, blocks (of bitsandbytes), zeros, plain; '' where there is none."""
    kinds = {Quantized: "codes", BitsAndBytes: "blocks", Sparse: "zeros", Dense: "plain"}
    return kinds[type(stored)] if stored is not None else ""
