"""The plain matrix product, at the best that this processor can do. Few tokens take the compiled product, which reads
the weights twice as fast as torch's. Without instructions for bfloat16 (AVX2, most laptops) many rows are multiplied
seven times faster when the same numbers are widened to float32, piece by piece."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from explorer.native import dense

FEW = 4  # tokens up to which the compiled product is faster
ROWS, PIECE = 16, 4096  # tokens from which widening pays; rows of the weight that are wide at once


def widens(kind: str = "bf16") -> bool:
    """Whether this processor has no product of bfloat16 (or `fp16`) matrices of its own."""
    supported = getattr(torch.ops.mkldnn, f"_is_mkldnn_{kind}_supported", None)
    return supported is not None and not supported()


WIDENS, WIDENS_HALF = widens(), widens("fp16")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (…, columns) by weight (rows, columns) → (…, rows), in the dtype of x; sums are float32 either way."""
    if x.numel() <= FEW * x.shape[-1] and dense.takes(x, weight):
        y = dense.multiply(x, weight)
        return y if bias is None else y + bias
    emulated = WIDENS if x.dtype == torch.bfloat16 else WIDENS_HALF and x.dtype == torch.float16
    if not emulated or x.is_cuda or x.numel() < ROWS * x.shape[-1]:
        return F.linear(x, weight, bias)
    y = cast(Tensor, _Widened.apply(x, weight))  # type: ignore[no-untyped-call]
    return y if bias is None else y + bias


class Linear(nn.Linear):
    """A layer of the original: transformers' own, but for the product. `transposed`: in its family's files it lies the
    other way round."""

    transposed = False

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def replace_linear_layers(model: nn.Module) -> nn.Module:
    """Plain linear layers of a model become `Linear`, in place; their weights stay where they are."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear
    return model


class WideAttention(TorchFunctionMode):
    """While it is active, this thread's attention runs in float32 where `WIDENS`: its way back in bfloat16 takes twenty
    times as long there (127 against 6 ms for 512 tokens of nine heads)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention and WIDENS and args[0].dtype == torch.bfloat16:
            query, key, value = (t.float() for t in args[:3])
            return func(query, key, value, *args[3:], **(kwargs or {})).to(args[0].dtype)
        return func(*args, **(kwargs or {}))


class _Widened(torch.autograd.Function):
    """Keeps the narrow weight for the way back, where a wide one for every layer would take as much memory again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x if weight.requires_grad else None, weight)
        tall = x.float()
        pieces = [F.linear(tall, piece.float()).to(x.dtype) for piece in torch.split(weight, PIECE)]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        slope, back, own = slopes[0], None, None
        if ctx.needs_input_grad[0]:
            parts = zip(torch.split(slope, PIECE, dim=-1), torch.split(weight, PIECE), strict=True)
            back = sum((part.float() @ piece.float() for part, piece in parts), start=torch.zeros(()))
            back = back.to(slope.dtype)
        if ctx.needs_input_grad[1]:
            own = slope.flatten(0, -2).float().T @ x.flatten(0, -2).float()
            own = own.to(weight.dtype)
        return back, own
