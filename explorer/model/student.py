"""A copy of a compressed model that can be trained: what its layers multiply by follows from what is trained, and is
differentiable in it. What comes out is the same model with other tensors, no byte larger."""

import copy
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from explorer.layers.linear import CompressedEmbedding, CompressedLinear, device_of
from explorer.layers.storage import Dense, Stored
from explorer.layers.targets import targets
from explorer.methods import distill
from explorer.model import teach
from explorer.model.teach import Lessons, trainable_dtype
from explorer.model.trainable import Trainable, of_stored, of_tensor

STATES = 10.0  # what hidden states count, beside the KL

ValueOf = Callable[[Trainable], Tensor]


class Student:
    """A copy of an unsettled model whose layers get their weights from `trained`; the model itself is not touched."""

    def __init__(self, unsettled: nn.Module, everything: bool) -> None:
        """`everything`: also train plain matrices inside the blocks, where blocks or channels were taken out."""
        self.dtype, self.device = trainable_dtype(unsettled), device_of(unsettled)
        self.healed = _sharing(unsettled)
        self.trained: list[Trainable] = []
        self.weights: dict[str, Callable[[ValueOf], Tensor]] = {}  # parameter → how it follows from what is trained
        net, inside = _sharing(unsettled), {t.name for t in targets(unsettled) if t.kind in ("attention", "mlp")}
        head = self.healed.get_output_embeddings()  # type: ignore[operator]
        for name, module in list(self.healed.named_modules()):
            if isinstance(module, CompressedLinear):
                plain = nn.Linear(module.in_features, module.out_features, module.bias is not None, device="meta")
                net.set_submodule(name, plain)
                self.weights[f"{name}.weight"] = self._assembled(module, frozen=module is head)
                if module.bias is not None:
                    self._add(name, module, "bias", "vectors")
            elif isinstance(module, CompressedEmbedding):
                net.get_submodule(name).stored = Dense(module.stored.dense().to(self.dtype))  # type: ignore[assignment]
            elif isinstance(module, nn.Linear) and everything and name in inside:
                self._add(name, module, "weight", "values")
            for attribute, tensor in module.named_parameters(recurse=False):
                if tensor.dim() == 1:
                    self._add(name, module, attribute, "vectors")
        self.net = copy.deepcopy(net).to(self.dtype).requires_grad_(False)

    def _add(self, name: str, module: nn.Module, attribute: str, kind: str) -> None:
        found = of_tensor(module, attribute, kind, self.dtype)
        self.trained.append(found)
        self.weights[f"{name}.{attribute}"] = lambda value: found.weight(value(found))

    def _assembled(self, layer: CompressedLinear, frozen: bool) -> Callable[[ValueOf], Tensor]:
        branches: list[list[Stored]] = [list(factors) for factors in layer.branches]  # type: ignore[call-overload]
        parts: list[list[Trainable | Tensor]] = []
        for factors in branches:
            kind = "values" if len(factors) == 1 else "factors"
            made = [part.dense().to(self.dtype) if frozen else of_stored(part, kind, self.dtype) for part in factors]
            parts.append(made)
        self.trained += [part for factors in parts for part in factors if isinstance(part, Trainable)]
        divisor = None if layer.input_scale is None else layer.input_scale.to(self.dtype)

        def weight(value: ValueOf) -> Tensor:
            total: Tensor | None = None
            for factors in parts:
                tensors = [part if isinstance(part, Tensor) else part.weight(value(part)) for part in factors]
                product = tensors[0] if len(tensors) == 1 else tensors[0] @ tensors[1]
                total = product if total is None else total + product
            assert total is not None
            return total if divisor is None else total / divisor

        return weight

    def given(self, value: ValueOf) -> dict[str, Tensor]:
        """What the layers multiply by, by name, for these values of what is trained."""
        return {name: weight(value) for name, weight in self.weights.items()}

    def loss(self, given: dict[str, Tensor], lessons: Lessons, windows: list[int]) -> tuple[Tensor, Tensor]:
        """Mean KL in nats from the lessons' predictions on these windows to the model's; and the same with what its
        hidden states are apart from the lessons', where they have any."""
        inputs: dict[str, Any] = {"input_ids": lessons.ids[windows].long().to(self.device), "use_cache": False}
        with teach.hidden_states(self.net) as hidden:
            logits: Tensor = functional_call(self.net, given, kwargs=inputs).logits[:, :-1]
        top, log_p = (part[windows].flatten(0, 1).to(self.device) for part in (lessons.top, lessons.log_p))
        kl = distill.divergence(logits.reshape(-1, logits.shape[-1]), top, log_p)
        pairs = zip(hidden, lessons.hidden, strict=False)  # no pairs where the lessons have none
        apart = [distill.apart(mine[:, :-1], theirs[windows].to(self.device)) for mine, theirs in pairs]
        return kl, kl + STATES * torch.stack(apart).mean() if apart else kl


def _sharing(model: nn.Module) -> nn.Module:
    """The modules anew, every tensor shared."""
    return copy.deepcopy(model, {id(t): t for t in chain(model.parameters(), model.buffers())})
