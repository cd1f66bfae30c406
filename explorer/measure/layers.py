"""Layer by layer: what each compressed matrix costs, how far its outputs are off, and what it alone does to the model's
predictions (that one layer swapped in, all others the original's)."""

import copy
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from explorer.layers.linear import CompressedEmbedding, CompressedLinear
from explorer.layers.storage import Sparse, Stored, tensors_of
from explorer.layers.targets import Target, weight_of
from explorer.records import LayerReading, Reading


def measure(
    base: nn.Module, compressed: nn.Module, found: list[Target], grams: Mapping[str, Tensor | None], ids: Tensor
) -> Iterator[list[LayerReading]]:
    """Rows for all compressed targets, one more with every yield; `compressed` is not settled, ids are (1, tokens)."""
    shared = {id(tensor): tensor for tensor in chain(base.parameters(), base.buffers())}
    trial = copy.deepcopy(base, shared)
    original = _log_probabilities(base, ids)
    rows: list[LayerReading] = []
    for target in found:
        module = compressed.get_submodule(target.name)
        if not isinstance(module, CompressedLinear | CompressedEmbedding) or target.tied_to:
            continue
        swapped = [t.name for t in found if t.name == target.name or t.tied_to == target.name]
        for name in swapped:
            trial.set_submodule(name, compressed.get_submodule(name))
        q = _log_probabilities(trial, ids)
        kl = float((original.exp() * (original - q)).sum(1).mean())
        for name in swapped:
            trial.set_submodule(name, base.get_submodule(name))
        rows.append(_row(target, base.get_submodule(target.name), module, grams.get(target.name), kl, ids.shape[1]))
        yield rows


@torch.no_grad()
def _row(
    target: Target, plain: nn.Module, module: nn.Module, gram: Tensor | None, kl: float, tokens: int
) -> LayerReading:
    weight, layer = weight_of(plain).float(), isinstance(module, CompressedLinear)
    any_of_both: Any = module
    now: Tensor = any_of_both.weight() if layer else any_of_both.stored.dense().float()
    branch: list[Stored] = list(any_of_both.branches[0]) if layer else [any_of_both.stored]
    lost = now.to(weight.device) - weight
    error = _power(lost, gram) / max(_power(weight, gram), 1e-30)
    kept = sum(part.values() for part in branch)
    return LayerReading(
        name=target.name,
        kind=target.kind,
        shape=target.shape,
        rank=branch[0].shape[1] if len(branch) == 2 else None,
        bits=_bits(branch[0]),
        zeros=Reading(value=float((now == 0).float().mean()), unit="share", how="measured"),
        kept=Reading(value=kept, unit="weights", how="measured"),
        file_bytes=Reading(
            value=sum(t.numel() * t.element_size() for t in tensors_of(module).values()), unit="bytes", how="measured"
        ),
        output_error=Reading(
            value=error**0.5, unit="share", how="measured" if layer and gram is not None else "calculated"
        ),
        kl=Reading(value=kl, unit="nats", how="measured", n=tokens),
    )


def _power(matrix: Tensor, gram: Tensor | None) -> float:
    """E‖W x‖²; of the weights alone where nothing is known of the inputs."""
    return float((matrix.square() if gram is None else (matrix @ gram) * matrix).sum().clamp(min=0))


def _bits(stored: nn.Module) -> int:
    inner = stored.kept if isinstance(stored, Sparse) else stored
    spec = getattr(inner, "spec", None)
    return int(spec.bits if spec else getattr(inner, "bits", 16))


@torch.inference_mode()
def _log_probabilities(model: nn.Module, ids: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=ids.to(next(model.parameters()).device), use_cache=False).logits
    return logits[0].float().log_softmax(-1)
