"""What is trained of one tensor, in the form in which it is stored: its values, or the scales of its codes. Masks and
codes stay what they are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from explorer.layers.storage import BitsAndBytes, Dense, Quantized, Sparse, Stored
from explorer.methods import bits
from explorer.methods.quantize import groups_of
from explorer.native import encoding

RATES = {"values": 1e-3, "factors": 4e-3, "scales": 4e-3, "vectors": 4e-3}  # of Adam, relative to what is trained


@dataclass(kw_only=True, eq=False)
class Trainable:
    """One tensor that is trained: its value in float32, what a layer multiplies by that follows from the value, the
    tensor that a file holds, the value again, and where the file's tensor goes."""

    value: Tensor
    rate: float
    weight: Callable[[Tensor], Tensor]
    stored: Callable[[Tensor], Tensor]
    again: Callable[[Tensor], Tensor]
    put: Callable[[Tensor], None]


def of_tensor(module: nn.Module, attribute: str, kind: str, dtype: torch.dtype) -> Trainable:
    """A module's own parameter or buffer, all of it; a layer computes in `dtype`, `kind` is one of `RATES`."""
    tensor: Tensor = getattr(module, attribute)
    parameter = isinstance(tensor, nn.Parameter)

    def put(new: Tensor) -> None:
        setattr(module, attribute, nn.Parameter(new, requires_grad=False) if parameter else new)

    return Trainable(
        value=tensor.detach().float().clone(),
        rate=RATES[kind] * _size(tensor),
        weight=lambda value: value.to(dtype),
        stored=lambda value: value.to(tensor.dtype),
        again=lambda new: new.float(),
        put=put,
    )


def of_stored(stored: Stored, kind: str, dtype: torch.dtype) -> Trainable | Tensor:
    """The values of a matrix, or the scales of its codes; the matrix itself where nothing of it can be trained."""
    inner = stored.kept if isinstance(stored, Sparse) else stored
    mask = bits.unpack_mask(stored.bitmap, stored.shape[1]) if isinstance(stored, Sparse) else None
    if isinstance(inner, Dense):
        return _values(stored, inner, mask, kind, dtype)
    if isinstance(inner, Quantized):
        return _scales(stored, inner, "scale", inner.scale, mask, inner.group, dtype)
    if isinstance(inner, BitsAndBytes) and not inner.spec.double:
        group = 64 if inner.spec.bits == 4 else 0
        return _scales(stored, inner, "absmax", inner.scales(), None, group, dtype)
    return stored.dense().to(dtype)


def _values(stored: Stored, inner: Dense, mask: Tensor | None, kind: str, dtype: torch.dtype) -> Trainable:

    def weight(value: Tensor) -> Tensor:
        kept = value.to(dtype)
        return kept if mask is None else _Spread.apply(kept, mask)  # type: ignore[no-untyped-call, no-any-return]

    def put(new: Tensor) -> None:
        inner.weight = new
        if isinstance(stored, Sparse):
            stored.fresh = None

    return Trainable(
        value=inner.weight.detach().float().clone(),
        rate=RATES[kind] * _size(inner.weight),
        weight=weight,
        stored=lambda value: value.to(inner.dtype),
        again=lambda new: new.float(),
        put=put,
    )


def _scales(
    stored: Stored, inner: Stored, name: str, scale: Tensor, mask: Tensor | None, group: int, dtype: torch.dtype
) -> Trainable:
    """The value is the gain, less 1, of each scale."""
    decoded, before = stored.dense().to(dtype), scale.float()
    size = groups_of(inner.shape[1], group)[1]

    def keep(value: Tensor) -> Tensor:
        new = before * (1 + value)
        return (new.to(inner.dtype) if scale.dtype == torch.float16 else new).to(scale.dtype)

    return Trainable(
        value=torch.zeros_like(before),
        rate=RATES["scales"],
        weight=lambda value: _Scaled.apply(value, decoded, mask, inner.shape[1], size),  # type: ignore[no-untyped-call]
        stored=keep,
        again=lambda new: torch.where(before == 0, 0.0, new.float() / before - 1),
        put=lambda new: setattr(inner, name, new),
    )


class _Spread(torch.autograd.Function):
    """The kept values of a matrix → the matrix, zero where the mask is."""

    @staticmethod
    def forward(ctx: Any, kept: Tensor, mask: Tensor) -> Tensor:
        ctx.mask, ctx.shape = mask, kept.shape
        return encoding.spread(kept, mask)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return encoding.select(slope, ctx.mask, ctx.shape), None


class _Scaled(torch.autograd.Function):
    """decoded · (1 + gain of its group); the groups lie over the columns, or over what a mask kept of them."""

    @staticmethod
    def forward(ctx: Any, gain: Tensor, decoded: Tensor, mask: Tensor | None, columns: int, size: int) -> Tensor:
        ctx.save_for_backward(decoded)
        ctx.mask, ctx.shape, ctx.columns, ctx.size = mask, gain.shape, columns, size
        wide = (1 + gain).to(decoded.dtype).repeat_interleave(size, dim=1)[:, :columns]
        return decoded * (wide if mask is None else encoding.spread(wide, mask))

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        (decoded,) = ctx.saved_tensors
        felt = (slope * decoded).float()
        rows, groups = ctx.shape
        if ctx.mask is not None:
            felt = encoding.select(felt, ctx.mask, (rows, ctx.columns))
        felt = nn.functional.pad(felt, (0, groups * ctx.size - ctx.columns))
        return felt.view(rows, groups, ctx.size).sum(2), None, None, None, None


def _size(tensor: Tensor) -> float:
    """Root mean square."""
    return max(float(tensor.detach().float().square().mean().sqrt()), 1e-8)
