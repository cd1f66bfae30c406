"""What each family calls its parts."""

from torch import nn


def is_conv1d(module: nn.Module) -> bool:
    """Whether this is GPT-2's own kind of linear layer, which stores (inputs, outputs)."""
    return hasattr(module, "nf") and hasattr(module, "nx")
