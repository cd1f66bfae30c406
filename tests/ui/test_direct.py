"""`python app.py` behind a proxy: the page asks itself directly, downloads go through."""

import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from explorer.ui.direct import direct

ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:9"


@contextmanager
def served(model: str, cache: Path, **environment: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The page's address as soon as the program tells it, and the program."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    clean |= {"SIZE_EXPLORER_CACHE": str(cache), **environment}
    command = [sys.executable, "app.py", "--model", model]
    server = subprocess.Popen(command, cwd=ROOT, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout
        for line in server.stdout:
            if found := re.search(r"http://127\S+", line):
                yield found[0], server
                break
        else:
            pytest.fail("it told no address")
    finally:
        server.kill()
        server.wait(10)


def status(address: str) -> int:
    found: int = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=10).status
    return found


def test_the_page_opens_behind_proxies_that_do_not_answer_or_are_of_an_unknown_kind(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    dead = {"HTTP_PROXY": NOWHERE, "https_proxy": NOWHERE, "ALL_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": "a.example"}
    with served(str(folders["llama"]), tmp_path, **dead) as (address, server):
        assert status(address) == 200
        assert server.stdout and any(line.startswith("Opened") for line in server.stdout)


def test_a_download_asks_the_proxy_and_the_page_does_not(tmp_path: Path) -> None:
    asked, visited = list[str](), threading.Event()

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            visited.wait(10)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    environment = {"http_proxy": f"http://127.0.0.1:{proxy.server_port}", "HF_HUB_OFFLINE": "0"}
    with served("someone/tiny", tmp_path, HF_ENDPOINT="http://hub.example", **environment) as (address, server):
        assert status(address) == 200
        visited.set()
        assert server.stdout  # which goes on: the page stays, so that another model can be chosen
        assert any("'someone/tiny' is not on this computer" in line for line in server.stdout)
    proxy.shutdown()
    proxy.server_close()
    assert asked and all(path.startswith("http://hub.example/api/models/someone/tiny") for path in asked)


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_what_the_environment_excepts_is_kept(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for each in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "a.example")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    before = dict(os.environ)
    with direct():
        httpx.Client().close()
    assert dict(os.environ) == before


HOSTILE = {"ALLOWED_PATHS": "/etc", "SHARE": "True", "ROOT_PATH": "/x", "MCP_SERVER": "True", "SSR_MODE": "True"}
HOSTILE |= {"DEBUG": "1", "SERVER_NAME": "0.0.0.0", "NODE_SERVER_PORT": "9", "ANALYTICS_ENABLED": "True"}
HOSTILE |= {"BLOCKED_PATHS": "/", "TEMP_DIR": "/etc", "ALLOW_FLAGGING": "auto", "WATCH_DIRS": "/etc"}


def test_within_it_there_are_no_variables_of_gradios(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(f"GRADIO_{name}", value)
    before = dict(os.environ)
    with direct():
        assert {n: v for n, v in os.environ.items() if n.startswith("GRADIO")} == {"GRADIO_ANALYTICS_ENABLED": "False"}
    assert dict(os.environ) == before


def test_the_page_does_not_listen_to_gradios_environment(folders: dict[str, Path], cache: Path) -> None:
    hostile = {f"GRADIO_{name}": value for name, value in HOSTILE.items()}
    with served(str(folders["llama"]), cache, **hostile) as (address, _):
        assert re.match(r"http://127\.0\.0\.1:\d+/?$", address)
        for path in ("/etc/passwd", "/etc/hostname"):
            assert httpx.get(f"{address.rstrip('/')}/gradio_api/file={path}", trust_env=False).status_code in (403, 404)
        config = httpx.get(f"{address.rstrip('/')}/config", trust_env=False).json()
        assert not config.get("mcp_server") and "/x" not in config["root"]
