"""A disk that is full, or cannot be written, is an OSError in one sentence."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from explorer.model import disk
from explorer.model.disk import HOUR, save_tensors, sweep


def test_what_is_saved_reads_back(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.ones(2)}
    save_tensors(tensors, tmp_path / "x.safetensors")
    again = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


def test_a_full_disk_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(disk, "save_file", full)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(OSError) as problem:
        save_tensors({"a": torch.zeros(10_000_000)}, tmp_path / "x.safetensors")
    told = str(problem.value)
    assert told.endswith("No space left on device. It needs 40 MB, and 1 MB are free.") and "serializing" not in told


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot be written: No such file or directory"):
        save_tensors({"a": torch.zeros(1)}, tmp_path / "nowhere" / "x.safetensors")


def test_what_a_killed_program_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    old = time.time() - 2 * HOUR
    stays = [f".new.{ended.pid}", f".mine.{os.getpid()}", ".hidden", f"plain.{ended.pid}", "folder/.x"]
    goes = [f".old.safetensors.{ended.pid}", f"folder/.deep.{ended.pid}"]
    (tmp_path / "folder").mkdir()
    for name in [*stays, *goes]:
        (tmp_path / name).write_text("half")
        if "new" not in name:
            os.utime(tmp_path / name, (old, old))
    sweep(tmp_path)
    sweep(tmp_path / "nowhere")
    left = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert left == set(stays)
