"""What is found out about a model once, so that every slider setting is a slice or a comparison afterwards: the
ranks of each weight within its row, and the spectrum of each matrix. Kept on disk. Knows no tokenizer and no recipe."""

import logging
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from explorer.layers.targets import targets
from explorer.methods import factorize, prune

VERSION = "1"


class Facts:
    """Ranks and spectra by target name. What is missing is worked out when it is asked for, and then kept."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def ranks(self, name: str, weight: Tensor) -> Tensor:
        """(rows, columns): the place of each weight within its row by magnitude."""
        return self._recall(f"{name}.ranks", lambda: prune.ranks(prune.magnitude_keys(weight)))

    def right_ranks(self, name: str, weight: Tensor) -> Tensor:
        """Ranks of the right factor; its rows do not depend on the rank, so they serve every one."""
        return self._recall(
            f"{name}.right_ranks", lambda: prune.ranks(prune.magnitude_keys(self.spectrum(name, weight)[1]))
        )

    def spectrum(self, name: str, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Left (n, r) and right (r, m) factor up to the rank where factorizing stops paying."""
        if f"{name}.left" not in self._kept:
            left, right = factorize.spectrum(weight, factorize.highest_rank(*weight.shape))
            self._kept[f"{name}.left"], self._kept[f"{name}.right"] = left, right
        return self._kept[f"{name}.left"], self._kept[f"{name}.right"]

    def prepare(self, model: nn.Module) -> Iterator[float]:
        """Work everything out, matrix by matrix; yields the share done, so that a caller can pause or stop between."""
        layers = [target for target in targets(model) if target.kind in ("attention", "mlp")]
        for done, target in enumerate(layers, 1):
            weight = cast(nn.Linear, model.get_submodule(target.name)).weight.detach()
            self.ranks(target.name, weight)
            self.spectrum(target.name, weight)
            self.right_ranks(target.name, weight)
            yield done / len(layers)

    def save(self, file: Path) -> None:
        """Write everything in one step: a reader sees the whole file or none."""
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            save_file(self._kept, partial)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)

    def load(self, file: Path) -> bool:
        """Take up what an earlier start has saved; a damaged file is removed and counts as absent."""
        if not file.exists():
            return False
        try:
            self._kept = load_file(file)
        except (SafetensorError, OSError) as error:
            logging.getLogger(__name__).warning("kept facts are damaged, working them out again: %s", error)
            file.unlink(missing_ok=True)
            return False
        return True

    def _recall(self, key: str, work: Callable[[], Tensor]) -> Tensor:
        if key not in self._kept:
            self._kept[key] = work()
        return self._kept[key]


def bytes_needed(model: nn.Module) -> int:
    """Memory that all facts of a model take: two ranks of two bytes and two factors beside each target weight."""
    element_bytes = next(model.parameters()).element_size()
    weights = sum(t.shape[0] * t.shape[1] for t in targets(model) if t.kind in ("attention", "mlp"))
    return (4 + element_bytes) * weights


def fingerprint(model: nn.Module) -> str:
    """A name for exactly these weights: facts kept under it belong to no other model."""
    digest = sha256(VERSION.encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(memoryview(tensor.detach().cpu().contiguous().view(torch.uint8).numpy()).cast("B"))
    return digest.hexdigest()[:16]
