"""What a smaller model has that its base has not: its config, the blocks that it keeps, and new tensors."""

import copy
from typing import Any, Protocol

from torch import Tensor, nn

from explorer.layers.targets import blocks_of
from explorer.methods import structure
from explorer.model.families import matrix_of


class BlockScores(Protocol):
    """What choosing needs to know of the base's blocks."""

    @property
    def angles(self) -> Tensor:
        """(blocks + 1, blocks + 1) angles between the hidden states at the places between blocks."""

    @property
    def drop_scores(self) -> Tensor:
        """(blocks,) cost of dropping each."""


class Calibration(BlockScores, Protocol):
    """And of the inputs of its linear layers, by name."""

    def gram(self, name: str) -> Tensor | None:
        """(m, m) float32 E[x xᵀ]; None before calibration."""

    def mean(self, name: str) -> Tensor:
        """(m,) float32 E[x]."""


class Cuts:
    """What was cut so far; every name is the one that a thing has in the base."""

    def __init__(self, base: nn.Module, facts: Calibration | None) -> None:
        self.base, self.facts = base, facts
        self.config: Any = copy.deepcopy(base.config)
        self.path, blocks = blocks_of(base)
        self.family = type(base).__name__
        self.kept = list(range(len(blocks)))
        self.tensors: dict[str, Tensor] = {}
        self.channels: dict[str, Tensor] = {}  # kept input columns of a linear layer
        self.notes: list[str] = []

    @property
    def blocks(self) -> list[str]:
        """Names of the blocks that are kept."""
        return [f"{self.path}.{block}" for block in self.kept]

    def linear(self, name: str) -> Any:
        return self.base.get_submodule(name)

    def gram(self, name: str, weight: Tensor) -> Tensor:
        found = self.facts.gram(name) if self.facts else None
        if found is None:
            raise ValueError("What can be taken out is known once the calibration texts went through the model.")
        return found.to(weight.device)

    def keep_rows(self, name: str, rows: Tensor) -> None:
        linear = self.linear(name)
        self.put(name, matrix_of(linear)[rows])
        if linear.bias is not None:
            self.tensors[f"{name}.bias"] = linear.bias.detach()[rows]

    def keep_columns(self, name: str, kept: Tensor, make_up: bool) -> None:
        """`make_up`: what is kept takes over what the others said, as far as it can."""
        weight = matrix_of(self.linear(name))
        self.channels[name] = kept
        if self.facts is None or not make_up:
            self.put(name, weight[:, kept])
        else:
            self.put(name, structure.compensate(weight, self.gram(name, weight), kept))

    def put(self, name: str, matrix: Tensor) -> None:
        """Keep a (outputs, inputs) matrix."""
        self.tensors[f"{name}.weight"] = matrix.contiguous()
