"""Layers that hold their weights as Stored: a linear layer that sums up branches of one or two factors, and an
embedding that may share its Stored with a tied head. Before `settle` they decode in every call (slow, for checks);
after it they run on kernels."""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from explorer.layers import choice, kernels
from explorer.layers.dense import linear
from explorer.layers.rotated import Rotation
from explorer.layers.storage import Stored, stack


class CompressedLinear(nn.Module):
    """y = Σ (factors of a branch) · (x / s) + b. The first branch is the weight, a second one mends what it lost.

    `input_scale` s (columns,) is there where columns were scaled before they were rounded (AWQ).
    """

    bias: Tensor | None
    input_scale: Tensor | None

    def __init__(
        self, branches: Sequence[Sequence[Stored]], bias: Tensor | None, input_scale: Tensor | None = None
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.ModuleList(factors) for factors in branches)
        self.kernels = nn.ModuleList()
        self.register_buffer("bias", bias)
        self.register_buffer("input_scale", input_scale)
        self.out_features, self.in_features = branches[0][0].shape[0], branches[0][-1].shape[1]
        self.dtype = branches[0][0].dtype
        self.note = ""
        self._steps: list[list[kernels.Kernel]] = []  # the kernels again, last factor first, at hand without a look-up

    def stored(self) -> list[Stored]:
        """All that the layer keeps, as long as it is not settled."""
        return [factor for factors in self.branches for factor in factors]  # type: ignore[union-attr, attr-defined]

    @property
    def weight(self) -> Tensor:
        """For families that ask a layer's weight for its dtype, device or shape; there are no numbers in it."""
        return _no_numbers(self, (self.out_features, self.in_features), self.dtype)

    def decoded(self) -> Tensor:
        """What the unsettled layer multiplies by, (out, in) float32."""
        device = self.stored()[0].dense().device
        total = torch.zeros(self.out_features, self.in_features, device=device)
        for factors in self.branches:
            product = torch.eye(self.in_features, device=device)
            for factor in reversed(list(factors)):  # type: ignore[call-overload]
                product = factor.dense().float() @ product
            total += product
        return total if self.input_scale is None else total / self.input_scale.float()

    @property
    def products(self) -> list[kernels.Kernel]:
        """The kernels in turn, where they are all that the layer does: no bias, no scale, no second branch."""
        plain = len(self._steps) == 1 and self.input_scale is None and self.bias is None
        return self._steps[0] if plain else []

    def first(self) -> Stored | None:
        """What the input is multiplied by first; None where it is scaled before, or meets several branches."""
        return None if len(self.branches) > 1 or self.input_scale is not None else _first(list(self.branches[0]))  # type: ignore[call-overload]

    def settle(self, shared: kernels.Kernel | None = None) -> None:
        """Move from storage to execution: build kernels, or take a share in the first one, and let go of the stored
        form."""
        self.note = next(filter(None, map(choice.why_decoded, self.stored())), "")
        branches: list[list[Stored]] = [list(factors) for factors in self.branches]  # type: ignore[call-overload]
        self._steps = [[shared or choice.build(_first(fs)), *map(choice.build, fs[-2::-1])] for fs in branches]
        self.kernels = nn.ModuleList(kernel for steps in self._steps for kernel in steps)
        self.branches = nn.ModuleList()

    def forward(self, x: Tensor) -> Tensor:
        if self.input_scale is not None:
            x = x / self.input_scale
        if not self._steps:
            y = linear(x, self.branches[0][0].dense()) if len(self.stored()) == 1 else self._decode(x)  # type: ignore[index]
        else:
            y = _through(self._steps[0], x)
            for steps in self._steps[1:]:
                y = y + _through(steps, x)
        return y if self.bias is None else y + self.bias

    def _decode(self, x: Tensor) -> Tensor:
        total = None
        for factors in self.branches:
            y = x
            for factor in reversed(list(factors)):  # type: ignore[call-overload]
                y = linear(y, factor.dense())
            total = y if total is None else total + y
        assert total is not None
        return total

    def extra_repr(self) -> str:
        return f"{self.in_features} → {self.out_features}"


def settle_together(layers: Sequence[CompressedLinear]) -> None:
    """Settle layers that get the same input: one product for all where one kernel carries them, else one by one."""
    firsts = [stored for layer in layers if (stored := layer.first()) is not None]
    if len(firsts) == len(layers) and choice.joint(firsts):
        product = kernels.Shared(choice.build(stack(firsts)), [stored.shape[0] for stored in firsts])
        for place, layer in enumerate(layers):
            layer.settle(kernels.Share(product, place))
    else:
        for layer in layers:
            layer.settle()


def _first(factors: Sequence[Stored]) -> Stored:
    """The last factor, which meets the input, as it runs."""
    return factors[-1] if len(factors) == 1 else choice.fitted(factors[-1], factors[-2])


class CompressedEmbedding(nn.Module):
    """Rows of a Stored by token id, times the scale that some models (Gemma) put on their embedding, turned where the
    model is rotated."""

    scale: Tensor | float | None

    def __init__(self, stored: Stored, scale: Tensor | float | None = None, rotation: Rotation | None = None) -> None:
        super().__init__()
        self.stored, self.rotation = stored, rotation
        if isinstance(scale, Tensor):
            self.register_buffer("scale", scale, persistent=False)
        else:
            self.scale = scale

    @property
    def weight(self) -> Tensor:
        """As a compressed linear layer's."""
        return _no_numbers(self, self.stored.shape, self.stored.dtype)

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.stored.rows(ids)
        if self.rotation is not None:
            rows = self.rotation.rotate(rows).to(rows.dtype)
        if isinstance(self.scale, Tensor):
            return rows * self.scale.to(rows.dtype)
        return rows if self.scale is None else rows * self.scale


def dtype_of(model: nn.Module) -> torch.dtype:
    """What a model's weights are, or decode to."""
    layers = (m.dtype for m in model.modules() if isinstance(m, CompressedLinear))
    return next(chain(layers, (p.dtype for p in model.parameters())))


def device_of(model: nn.Module) -> torch.device:
    """Where a model runs; one may have no parameter left."""
    return next(chain(model.parameters(), model.buffers())).device


def _no_numbers(layer: nn.Module, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    device = next((buffer.device for buffer in layer.buffers()), None)
    return torch.full((1, 1), torch.nan, dtype=dtype, device=device).expand(shape)


def _through(steps: Sequence[kernels.Kernel], x: Tensor) -> Tensor:
    for kernel in steps:
        x = kernel(x)
    return x
