"""A reader sees the whole file or the one before it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from explorer.files import HOUR, cache_folder, replacing, sweep


def test_the_new_file_takes_the_old_one_s_place_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "file.json"
    for text in ("first", "second"):
        with replacing(file) as partial:
            partial.write_text(text)
            assert not file.exists() or file.read_text() != text
        assert file.read_text() == text and list(file.parent.iterdir()) == [file]


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text("before")
    with pytest.raises(OSError, match="full"), replacing(file) as partial:
        partial.write_text("half")
        raise OSError("the disk is full")
    assert file.read_text() == "before" and list(tmp_path.iterdir()) == [file]


def test_the_cache_is_where_the_environment_says(cache: Path) -> None:
    assert cache_folder() == cache


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
