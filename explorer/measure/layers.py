"""Layer by layer: what each compressed matrix costs, how far its outputs are off, and what it alone does to the model's
predictions (that one layer swapped in, all others the original's)."""

import copy
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from explorer.layers.linear import CompressedLinear, device_of
from explorer.layers.storage import Sparse, Stored, tensors_of
from explorer.layers.targets import Target, weight_of
from explorer.values.matrices import LayerReading
from explorer.values.reading import Reading


def measure(
    base: nn.Module, compressed: nn.Module, found: list[Target], grams: Mapping[str, Tensor | None], ids: Tensor
) -> Iterator[list[LayerReading]]:
    """Rows for all compressed targets, one more with every yield; `compressed` is not settled, ids are (1, tokens)."""
    rows: list[LayerReading] = []
    for target, kl in alone(base, compressed, found, ids):
        plain, module = base.get_submodule(target.name), compressed.get_submodule(target.name)
        rows.append(_row(target, plain, module, grams.get(target.name), kl, ids.numel()))
        yield rows


def alone(base: nn.Module, compressed: nn.Module, found: list[Target], ids: Tensor) -> Iterator[tuple[Target, float]]:
    """KL in nats of the model in which one target is the compressed model's and all others are the base's, target by
    target; a tied head goes with its embedding. ids are (texts, tokens)."""
    shared = {id(tensor): tensor for tensor in chain(base.parameters(), base.buffers())}
    trial = copy.deepcopy(base, shared)
    original = log_probabilities(base, ids)
    for target in found:
        now, plain = compressed.get_submodule(target.name), base.get_submodule(target.name)
        if target.tied_to or getattr(now, "weight", None) is plain.weight:  # shared with the base
            continue
        swapped = [t.name for t in found if t.name == target.name or t.tied_to == target.name]
        for name in swapped:
            trial.set_submodule(name, compressed.get_submodule(name))
        q = log_probabilities(trial, ids)
        for name in swapped:
            trial.set_submodule(name, base.get_submodule(name))
        yield target, float((original.exp() * (original - q)).sum(1).mean())


@torch.no_grad()
def _row(
    target: Target, plain: nn.Module, module: nn.Module, gram: Tensor | None, kl: float, tokens: int
) -> LayerReading:
    weight, layer = weight_of(plain).float(), isinstance(module, CompressedLinear)
    any_of_both: Any = module
    now: Tensor = any_of_both.decoded() if layer else any_of_both.stored.dense().float()
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
def log_probabilities(model: nn.Module, ids: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=ids.to(device_of(model)), use_cache=False).logits
    return logits.flatten(0, 1).float().log_softmax(-1)
