"""A reader sees the whole file or the one before it."""

from pathlib import Path

import pytest

from explorer.files import cache_folder, replacing


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
