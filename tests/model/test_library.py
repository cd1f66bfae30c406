"""What is on this computer comes first what was opened last, and never what is gone."""

import shutil
from pathlib import Path

import pytest

from explorer.files import cache_folder
from explorer.model import downloads, library
from explorer.model.library import Here
from explorer.model.places import DEFAULT


def test_what_was_opened_last_comes_first_and_what_is_gone_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    monkeypatch.chdir(tmp_path)
    library.remember("one")
    library.remember(str(two), "export")
    library.remember(DEFAULT)
    assert library.here() == [Here(DEFAULT, "opened"), Here(str(two), "export"), Here(str(one), "opened")]
    library.remember("one")
    shutil.rmtree(two)
    assert library.here() == [Here(str(one), "opened"), Here(DEFAULT, "opened")]


def test_the_hub_s_cache_is_listed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(downloads, "kept_from_hub", lambda: ["a/b", "c/d"])
    monkeypatch.setattr(downloads, "from_hub_before", lambda name: tmp_path if name == "a/b" else None)
    library.remember("a/b")
    library.remember("gone/away")
    assert library.here() == [Here("a/b", "opened"), Here("c/d", "hub")]


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"x": 3}', '{"/": "evil"}', "[" * 100_000])
def test_a_damaged_list_is_an_empty_one(damage: str) -> None:
    library.remember(DEFAULT)
    (cache_folder() / "opened.json").write_text(damage)
    assert library.here() == []
    library.remember(DEFAULT)
    assert library.here() == [Here(DEFAULT, "opened")]


def test_no_more_than_so_many_are_remembered(tmp_path: Path) -> None:
    for number in range(library.REMEMBERED + 5):
        (tmp_path / str(number)).mkdir()
        library.remember(str(tmp_path / str(number)))
    found = library.here()
    assert len(found) == library.REMEMBERED and found[0].name.endswith(str(library.REMEMBERED + 4))
