"""What people install: the wheel, also as the sdist builds it, run from elsewhere; it knows what a checkout knows."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest

SAFE: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4
ROOT = Path(__file__).parents[1]


def build(kind: str, source: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = out.iterdir()
    return built


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("RECORD")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`size-explorer` in a virtual environment of its own, which borrows all but the project from this one."""
    home = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    site = next(home.glob("[Ll]ib*/**/site-packages"))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))  # its own .pth files do not count there
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--disable-pip-version-check"]
    python = next(home.glob("[bS][ic]*/python*"))
    subprocess.run([*command, "--prefix", str(home), "--ignore-installed", str(wheel)], check=True)
    script = next(home.glob("[bS][ic]*/size-explorer*"))
    script.write_text(script.read_text().replace(sys.executable, str(python), 1))
    return script


def run(command: list[str], cwd: Path) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True, text=True).stdout


def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    packed = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path, **SAFE)
    (source,) = tmp_path.glob("size_explorer-*")
    assert contents(build("wheel", source, tmp_path / "again")) == contents(wheel)


def test_the_wheel_holds_every_asset_and_every_module(wheel: Path) -> None:
    tracked = [file for part in ("explorer", "assets") for file in (ROOT / part).rglob("*") if file.is_file()]
    names = {file.relative_to(ROOT).as_posix() for file in tracked if "__pycache__" not in file.parts}
    assert {
        name.replace("assets/", "explorer/_assets/", 1) if name.startswith("assets/") else name for name in names
    } <= {*contents(wheel)}


def test_an_installed_program_measures_what_the_checkout_measures(
    program: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    more = ["measure", "--model", str(folders["llama"]), "--bits", "4", "--json", "--tokens", "200", "--rounds", "1"]
    installed = json.loads(run([str(program), *more], tmp_path))
    checkout = json.loads(run([sys.executable, "-m", "explorer", *more], ROOT))
    for timed in ("speed", "seconds"):
        installed.pop(timed), checkout.pop(timed)
    assert installed == checkout
    assert "size-explorer 0." in run([str(program), "--version"], tmp_path)


def test_an_installed_page_answers(program: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    command = [str(program), "--model", str(folders["llama"]), "--no-browser"]
    environment = {**os.environ, "SIZE_EXPLORER_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            address = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
            assert "Pruning: weights set to zero" in urllib.request.urlopen(address, timeout=20).read().decode()
        finally:
            server.terminate()


def test_help_names_every_command(program: Path, tmp_path: Path) -> None:
    found: Any = run([str(program), "--help"], tmp_path)
    for command in ("page", "measure", "generate", "export", "heal", "budget", "sweep", "what-it-takes", "bench"):
        assert f"    {command}" in found
