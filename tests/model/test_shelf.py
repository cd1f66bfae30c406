"""Tensors in memory and in files, by key: the same whichever, and no more held than there is room for."""

from pathlib import Path

import pytest
import torch

from explorer.model.shelf import Shelf


def test_what_is_put_away_is_found_again_and_no_longer_held(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "facts")
    shelf["a"], shelf["b"] = torch.ones(3), torch.zeros(2)
    shelf.put_away("one", {"a": shelf["a"]})
    assert set(shelf) == {"a", "b"} and len(shelf) == 2 and list(shelf._memory) == ["b"]
    assert shelf["a"].tolist() == [1, 1, 1] and "c" not in shelf
    with pytest.raises(KeyError):
        shelf["c"]


def test_files_are_mapped_no_more_than_there_is_room_for(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, room=100)
    for place in range(4):
        shelf.put_away(f"file-{place}", {f"{place}": torch.full((20,), float(place))})
    for place in (0, 1, 2, 3, 0):
        assert shelf[f"{place}"][0] == place
    assert list(shelf._mapped) == ["file-0"]


def test_what_was_worked_out_in_passing_is_forgotten_first(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, room=100)
    shelf["kept"] = torch.ones(50)
    for place in range(4):
        shelf.remember({f"{place}": torch.ones(20)})
    assert "kept" in shelf and "3" in shelf and "0" not in shelf
    shelf.forget()
    assert list(shelf) == ["kept"]


def test_a_folder_is_taken_up_whole_or_not_at_all(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "facts")
    shelf.put_away("one", {"a": torch.ones(3)})
    assert Shelf(tmp_path / "facts").load("about") is None  # the last file is not there
    shelf.put_away("about", {"b": torch.ones(1)}, {"tokens": "7"})
    again = Shelf(tmp_path / "facts")
    assert again.load("about") == {"tokens": "7"} and set(again) == {"a", "b"} and again.saved("about")
    again.clear_away()
    assert len(again) == 0 and not (tmp_path / "facts").exists()
