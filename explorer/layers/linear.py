"""Layers that hold their weights as Stored: a linear layer of one or two factors, and an embedding that may share its
Stored with a tied head. Before `settle` they decode in every call (slow, for checks); after it they run on kernels."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from explorer.layers import kernels
from explorer.layers.storage import Stored


class CompressedLinear(nn.Module):
    """y = x Wᵀ + b where W is `factors[0]`, or `factors[0] @ factors[1]`. Factors are multiplied last one first."""

    bias: Tensor | None

    def __init__(self, factors: Sequence[Stored], bias: Tensor | None) -> None:
        super().__init__()
        self.factors = nn.ModuleList(factors)
        self.kernels = nn.ModuleList()
        self.register_buffer("bias", bias)
        self.out_features, self.in_features = factors[0].shape[0], factors[-1].shape[1]
        self.kept_values = sum(factor.values() for factor in factors)

    def settle(self) -> None:
        """Move from storage to execution: build kernels, and let go of the stored form."""
        stored = [factor for factor in self.factors if isinstance(factor, Stored)]
        self.note = next(filter(None, map(kernels.why_decoded, stored)), "")
        self.kernels = nn.ModuleList(kernels.build(factor) for factor in reversed(stored))
        self.factors = nn.ModuleList()

    def forward(self, x: Tensor) -> Tensor:
        if self.kernels:
            for kernel in self.kernels:
                x = kernel(x)
        else:
            for factor in reversed(self.factors):
                x = F.linear(x, factor.dense())  # type: ignore[operator]
        return x if self.bias is None else x + self.bias

    def extra_repr(self) -> str:
        return f"{self.in_features} → {self.out_features}"


class CompressedEmbedding(nn.Module):
    """Rows of a Stored by token id, times the scale that some models (Gemma) put on their embedding."""

    scale: Tensor | None

    def __init__(self, stored: Stored, scale: Tensor | None = None) -> None:
        super().__init__()
        self.stored = stored
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.stored.rows(ids)
        return rows if self.scale is None else rows * self.scale.to(rows.dtype)
