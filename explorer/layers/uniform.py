"""Layers of one kind, whatever a family makes of them: GPT-2's Conv1D and the parts of fused experts become plain
linear layers."""

from typing import Any

from torch import nn

from explorer.layers.dense import replace_linear_layers
from explorer.layers.experts import part_experts


def uniform(model: nn.Module) -> nn.Module:
    """In place; weights stay where they are, but for Conv1D's, which lie transposed."""
    for name, module in list(model.named_modules()):
        if is_conv1d(module):
            conv: Any = module
            linear = nn.Linear(conv.nx, conv.nf, device="meta")
            linear.weight = nn.Parameter(conv.weight.detach().T.contiguous(), requires_grad=False)
            linear.bias = conv.bias
            linear.transposed = True  # type: ignore[assignment]  # so that an export can turn it back
            model.set_submodule(name, linear)
    return replace_linear_layers(part_experts(model))


def is_conv1d(module: nn.Module) -> bool:
    """Whether this is GPT-2's own kind of linear layer, which stores (inputs, outputs)."""
    return hasattr(module, "nf") and hasattr(module, "nx")
