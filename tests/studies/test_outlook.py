"""What opening takes, said before: of folders and files from their headers, of the Hub's models from what it says."""

from pathlib import Path

import pytest

from explorer.model import downloads
from explorer.studies import outlook as study
from explorer.studies.outlook import fitting, outlook
from explorer.takes import catalogue
from tests.conftest import Loaded


def test_a_folder_needs_no_download_and_its_weights_are_counted(folders: dict[str, Path], gpt2: Loaded) -> None:
    found = outlook(str(folders["gpt2"]))
    assert found.problem == "" and found.download and found.download.value == 0
    assert found.parameters and found.parameters.value == sum(p.numel() for p in gpt2.model.parameters())
    assert found.memory and found.memory.value == 6 * found.parameters.value and found.seconds
    assert {found.memory.how, found.seconds.how} == {"estimated"}


@pytest.mark.parametrize("name", ["/no/such", "./nothing", "x.gguf", "a\0b", "x" * 5000, "~nobody/x"])
def test_what_is_not_there_is_one_sentence(name: str) -> None:
    found = outlook(name)
    assert found.problem.endswith(".") and found.memory is None


def test_a_damaged_folder_is_refused_before_it_is_opened(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folders["llama"] / "config.json").read_text())
    assert "no model.safetensors" in outlook(str(tmp_path)).problem


def test_a_download_is_said_and_one_too_large_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "hub_bytes", lambda name: (3_000_000, ""))
    found = outlook("someone/small")
    assert found.download and found.download.value == 3e6 and not found.problem
    monkeypatch.setattr(downloads, "hub_bytes", lambda name: (10**15, ""))
    assert "GB of memory" in outlook("someone/large").problem


def test_without_the_hub_the_catalogue_still_tells_the_size() -> None:
    entry = catalogue.entries()[0]
    found = outlook(entry.id)
    assert "is not on this computer" in found.problem
    assert found.parameters and found.parameters.value == entry.parameters


def test_only_what_fits_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "free_bytes", lambda: 4 * 10**9)
    offered = fitting()
    assert offered and all(2 * one.parameters < 4e9 for one in offered)
    assert len(fitting(bits=4)) > len(offered)
    monkeypatch.setattr(study, "free_bytes", lambda: 0)
    assert fitting() == []
