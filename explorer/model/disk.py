"""Tensors to a file; a disk that is full or cannot be written is an OSError that says how much room is needed. What
killed programs left half written is removed."""

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

HOUR = 3600  # seconds


def save_tensors(tensors: Mapping[str, Tensor], file: Path, metadata: Mapping[str, str] | None = None) -> None:
    """As safetensors (one row behind the other); OSError in one sentence where that fails."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    try:
        save_file(whole, file, metadata=dict(metadata) if metadata is not None else None)
    except (SafetensorError, OSError) as problem:
        needed = sum(tensor.nbytes for tensor in whole.values())
        free = _free(file.parent)
        short = f" It needs {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free." if free < needed else ""
        raise OSError(f"{file.parent} cannot be written: {_reason(problem)}.{short}") from None


def sweep(folder: Path) -> None:
    """Remove what programs left half written that were killed: their process is gone, and the file is an hour old."""
    for file in folder.rglob(".*"):
        _, _, owner = file.name.rpartition(".")
        with suppress(OSError):
            if owner.isdigit() and not psutil.pid_exists(int(owner)) and time.time() - file.stat().st_mtime > HOUR:
                file.unlink()


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def _reason(problem: Exception) -> str:
    """The system's own word, without what the library says around it."""
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    told = str(problem).partition(" (os error")[0].rstrip('." })')
    return told.rpartition("error: ")[2].rpartition('message: "')[2]
