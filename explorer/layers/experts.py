"""The experts of a mixture, each of whose matrices is a linear layer of its own. transformers keeps those of one kind
in one parameter, (experts, rows, columns) or transposed; here that is cut into views, so that whatever is done to
matrices is done to each expert's, and put together again for a file that is left as it was."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

MATRICES = ("gate_up_proj", "up_proj", "down_proj", "weight")


class Stack(nn.ModuleList):
    """One linear layer an expert. `whole` and `whole_bias` are the parameters that their weights and biases are views
    of, as long as every expert is left as it was."""

    whole: Tensor | None
    whole_bias: Tensor | None

    def __init__(self, whole: Tensor, bias: Tensor | None, *, experts: int, transposed: bool) -> None:
        super().__init__()
        self.experts, self.transposed = experts, transposed
        self.register_buffer("whole", None, persistent=False)
        self.register_buffer("whole_bias", None, persistent=False)
        for _ in range(experts):
            self.append(nn.Linear(1, 1, bias=bias is not None, device="meta"))
        self.fill(whole, bias)

    def fill(self, whole: Tensor, bias: Tensor | None) -> None:
        """Make the experts' weights views of this."""
        self.whole, self.whole_bias = whole.detach(), None if bias is None else bias.detach()
        layer: Any
        for place, (layer, weight) in enumerate(zip(self, self.parts(self.whole), strict=True)):
            layer.weight = nn.Parameter(weight, requires_grad=False)
            layer.out_features, layer.in_features = weight.shape
            if self.whole_bias is not None:
                layer.bias = nn.Parameter(self.whole_bias[place], requires_grad=False)

    def parts(self, whole: Tensor) -> list[Tensor]:
        """Each expert's (rows, columns) in the parameter of all."""
        cut = whole.view(self.experts, -1, whole.shape[-1])
        return [part.T if self.transposed else part for part in cut]

    def cut(self, name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The experts' tensors by name, where those of all are given together under the stack's name."""
        found = dict[str, Tensor]()
        if name in tensors:
            found |= {f"{name}.{i}.weight": part for i, part in enumerate(self.parts(tensors[name]))}
        if f"{name}_bias" in tensors:
            found |= {f"{name}.{i}.bias": part for i, part in enumerate(tensors[f"{name}_bias"])}
        return found

    def fused(self, name: str) -> dict[str, Tensor]:
        """The other way."""
        both = {name: self.whole, f"{name}_bias": self.whole_bias}
        return {key: tensor for key, tensor in both.items() if tensor is not None}

    def put_together(self, whole: Tensor | None, bias: Tensor | None) -> None:
        """The experts' weights are views of these already; None where they are not."""
        self.whole, self.whole_bias = whole, bias

    @property
    def intact(self) -> bool:
        """Whether the parameter of all may stand for the experts: none was changed, and nobody watches one."""
        return self.whole is not None and not any(e._forward_pre_hooks or e._forward_hooks for e in self)


def stacks_of(model: nn.Module) -> dict[str, Stack]:
    """By name; that of a stack is that of the parameter that it stands for."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Stack)}


def part_experts(model: nn.Module) -> nn.Module:
    """Every module of fused experts that is known here takes its experts apart, in place."""
    for module in list(model.modules()):
        kind = type(module)
        way = next((way for fits, way in KINDS.items() if fits(module)), None)
        if way is None or issubclass(kind, way):
            continue
        holder: nn.Module = module.mlp if way is Dbrx else module  # type: ignore[assignment]
        transposed = way is Llama4 or bool(getattr(module, "is_transposed", False))
        experts: Any = module.num_experts
        for name, parameter in list(holder.named_parameters(recurse=False)):
            if name not in (*MATRICES, "w1", "v1", "w2"):
                continue
            bias = getattr(holder, f"{name}_bias", None)
            stack = Stack(parameter, bias, experts=experts, transposed=name == "w2" if way is Dbrx else transposed)
            for word in (name, *([] if bias is None else [f"{name}_bias"])):
                delattr(holder, word)
            holder.add_module(name, stack)
        module.__class__ = _subclass(way, kind)
    return model


class Routed:
    """Experts that are told which tokens are theirs, as transformers' `use_experts_implementation` has them."""

    def forward(self: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        stacks = [module for module in self.children() if isinstance(module, Stack)]
        if all(stack.intact for stack in stacks):
            return super().forward.__func__(_Whole(self), hidden_states, top_k_index, top_k_weights)  # type: ignore
        kind = torch.result_type(hidden_states, top_k_weights)
        found = torch.zeros(*top_k_index.shape, hidden_states.shape[-1], dtype=kind, device=hidden_states.device)
        for expert in set(top_k_index.flatten().tolist()):
            if expert < self.num_experts:  # one more stands for none
                token, place = torch.where(top_k_index == expert)
                met = self._expert(expert, hidden_states[token])
                found[token, place] = met * top_k_weights[token, place, None]
        return found.sum(dim=1).to(hidden_states.dtype)

    def _expert(self: Any, number: int, x: Tensor) -> Tensor:
        y: Tensor
        if self.has_gate:
            y = self._apply_gate(self.gate_up_proj[number](x))
        else:
            y = self.act_fn(self.up_proj[number](x))
        y = self.down_proj[number](y)
        return self.post_expert_norm(y) if self.has_post_expert_norm else y  # type: ignore[no-any-return]


class Llama4:
    """Experts that get all tokens, those of others as zeros: (experts · tokens, width)."""

    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        if self.gate_up_proj.intact and self.down_proj.intact:
            return super().forward.__func__(_Whole(self), hidden_states)  # type: ignore[misc, no-any-return]
        found = []
        for x, gate_up, down in zip(
            hidden_states.chunk(self.num_experts), self.gate_up_proj, self.down_proj, strict=True
        ):
            theirs, y = x.any(dim=-1), torch.zeros_like(x)
            if theirs.any():
                gate, up = gate_up(x[theirs]).chunk(2, dim=-1)
                y = y.index_put((theirs,), down(up * self.act_fn(gate)))
            found.append(y)
        return torch.cat(found)


class Dbrx:
    """Experts whose three matrices lie in a module beside them, below one another."""

    def forward(self: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        flat, mlp = hidden_states.reshape(-1, self.hidden_size), self.mlp
        found = torch.zeros_like(flat)
        for expert in sorted(set(top_k_index.flatten().tolist())):
            if expert < self.num_experts:
                place, token = torch.where(top_k_index.T == expert)
                x = flat[token]
                met = mlp.w2[expert](mlp.activation_fn(mlp.w1[expert](x)) * mlp.v1[expert](x))
                found.index_add_(0, token, met * top_k_weights[token, place, None])
        return found.view(hidden_states.shape[0], -1, self.hidden_size)


class Sorted:
    """Experts that get their tokens one behind the other."""

    def forward(self: Any, inputs: Tensor, expert_size: list[int]) -> Tensor:
        parts = zip(self.weight, torch.split(inputs, expert_size), strict=True)
        return torch.cat([expert(x) for expert, x in parts if len(x)], dim=0)


KINDS: dict[Callable[[nn.Module], bool], type] = {
    lambda module: hasattr(module, "is_transposed") and hasattr(module, "has_gate"): Routed,
    lambda module: type(module).__name__ == "Llama4TextExperts": Llama4,
    lambda module: type(module).__name__ == "DbrxExperts": Dbrx,
    lambda module: type(module).__name__.endswith("ParallelExperts"): Sorted,
}


class _Whole:
    """A module of experts as transformers wrote it: with one parameter for all of one kind."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        stack = self._module._modules.get(name.removesuffix("_bias"))
        if isinstance(stack, Stack):
            return stack.whole_bias if name.endswith("_bias") else stack.whole
        return getattr(self._module, name)


_kinds: dict[tuple[type, type], type] = {}


def _subclass(way: type, kind: type) -> type:
    return _kinds.setdefault((way, kind), type(kind.__name__, (way, kind), {}))
