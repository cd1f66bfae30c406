"""Layers that hold their weights as Stored: a linear layer of one or two factors, and an embedding that may share its
Stored with a tied head. Before `settle` they decode in every call (slow, for checks); after it they run on kernels."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from explorer.layers import kernels
from explorer.layers.kernels import Decoded
from explorer.layers.storage import Quantized, Stored, stack


class CompressedLinear(nn.Module):
    """y = x Wᵀ + b where W is `factors[0]`, or `factors[0] @ factors[1]`. Factors are multiplied last one first."""

    bias: Tensor | None

    def __init__(self, factors: Sequence[Stored], bias: Tensor | None) -> None:
        super().__init__()
        self.factors = nn.ModuleList(factors)
        self.kernels = nn.ModuleList()
        self.register_buffer("bias", bias)
        self.out_features, self.in_features = factors[0].shape[0], factors[-1].shape[1]
        self.note = ""
        self._steps: tuple[kernels.Kernel, ...] = ()  # the kernels again, at hand without a look-up

    def stored(self) -> list[Stored]:
        """The factors, as long as the layer is not settled."""
        return [factor for factor in self.factors if isinstance(factor, Stored)]

    def settle(self, shared: kernels.Kernel | None = None) -> None:
        """Move from storage to execution: build kernels (or take a share in one), and let go of the stored form."""
        stored = self.stored()
        self.note = next(filter(None, map(kernels.why_decoded, stored)), "")
        self._steps = (shared,) if shared else tuple(kernels.build(factor) for factor in reversed(stored))
        self.kernels = nn.ModuleList(self._steps)
        self.factors = nn.ModuleList()

    def forward(self, x: Tensor) -> Tensor:
        for kernel in self._steps:
            x = kernel(x)
        if not self._steps:
            for factor in reversed(self.stored()):
                x = F.linear(x, factor.dense())
        return x if self.bias is None else x + self.bias

    def extra_repr(self) -> str:
        return f"{self.in_features} → {self.out_features}"


def settle_together(layers: Sequence[CompressedLinear]) -> None:
    """Settle layers that get the same input: one product for all where one kernel carries them, else one by one."""
    stored = [part for layer in layers for part in layer.stored()]
    quantized = [part for part in stored if isinstance(part, Quantized)]
    alike = {(kernels.choose(part), part.bits, part.group, part.shape[1]) for part in quantized}
    if len(layers) == len(stored) == len(quantized) > 1 == len(alike) and kernels.choose(quantized[0]) is not Decoded:
        product = kernels.Shared(kernels.build(stack(quantized)), [part.shape[0] for part in quantized])
        for place, layer in enumerate(layers):
            layer.settle(kernels.Share(product, place))
    else:
        for layer in layers:
            layer.settle()


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
