"""The page where others put it: in a frame of another origin, and behind nginx under a path, stream included."""

import os
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from gradio_client import Client
from playwright.sync_api import Browser, Page, expect, sync_playwright

from explorer.ui.page import build
from explorer.ui.serving import launch
from explorer.ui.standing import standing
from explorer.workbench.workbench import Workbench
from tests.conftest import TEXTS

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
MISSING = pytest.fail if os.environ.get("CI") else pytest.skip
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CONFIG = """
daemon off; pid {home}/pid; error_log {home}/error.log; events {{}}
http {{ access_log off; client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c;
  uwsgi_temp_path {home}/d; scgi_temp_path {home}/e;
  server {{ listen 127.0.0.1:{port}; location / {{ return 204; }}
    location /explorer/ {{ proxy_pass {address}; proxy_http_version 1.1;
    proxy_buffering off; proxy_set_header Host $http_host; }} }} }}"""


@pytest.fixture(scope="module")
def bench(folders: dict[str, Path]) -> Workbench:
    bench = Workbench(str(folders["llama"]), texts=TEXTS).load()
    list(bench.prepare())
    return bench


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        MISSING(f"no Chromium at {CHROMIUM}")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@contextmanager
def served(bench: Workbench, **how: object) -> Iterator[str]:
    page = build(bench)
    try:
        yield launch(page, standing({}, **how))  # type: ignore[arg-type]
    finally:
        page.close(verbose=False)


@contextmanager
def host() -> Iterator[tuple[str, list[str]]]:
    """Another site on this computer, whose page shows in a frame what is in the list."""
    shown: list[str] = []

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200), self.send_header("Content-Type", "text/html"), self.end_headers()
            self.wfile.write(f'<title>host</title><iframe src="{shown[0]}" width="1300" height="700">'.encode())

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}", shown
    finally:
        server.shutdown()


def works(page: Page, where: object) -> None:
    """The numbers come, a preset changes them, both texts are written."""
    found = where if isinstance(where, Page) else page.frame_locator("iframe")
    expect(found.locator(".status[data-state=done]")).to_be_visible(timeout=60_000)
    found.locator("button", has_text="Quarter").first.click()
    expect(found.locator(".cards")).to_have_attribute(
        "data-setting", "4 bits, head 6 bits, groups of 32", timeout=60_000
    )
    expect(found.locator(".status[data-state=done]")).to_be_visible(timeout=60_000)
    expect(found.locator(".pane.compressed h2")).to_contain_text("4 bits")


@pytest.mark.browser
def test_a_site_that_is_named_shows_it_in_a_frame_and_no_other_does(browser: Browser, bench: Workbench) -> None:
    with host() as (site, shown), host() as (other, shown_too), served(bench, frames=[site]) as address:
        for where in (shown, shown_too):
            where.append(address)
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.goto(site)
        works(page, None)
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text))
        page.goto(other)
        page.wait_for_timeout(1000)
        assert page.frame_locator("iframe").locator(".cards").count() == 0
        assert any("frame-ancestors" in error for error in errors)
        page.close()


@contextmanager
def proxied(bench: Workbench, home: Path) -> Iterator[str]:
    """The page at /explorer of an nginx."""
    if not NGINX:
        pytest.skip("no nginx")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with served(bench, root="/explorer") as address:
        home.joinpath("nginx.conf").write_text(CONFIG.format(home=home, port=port, address=address))
        server = subprocess.Popen(
            [NGINX, "-p", str(home), "-c", str(home / "nginx.conf"), "-e", str(home / "error.log")]
        )
        try:
            for _ in range(100):
                with socket.socket() as door:
                    if door.connect_ex(("127.0.0.1", port)) == 0:
                        break
                threading.Event().wait(0.05)
            yield f"http://127.0.0.1:{port}/explorer/"
        finally:
            server.terminate()
            server.wait(10)


def test_behind_nginx_under_a_path_the_stream_comes_as_it_is_written(bench: Workbench, tmp_path: Path) -> None:
    with proxied(bench, tmp_path) as address:
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert f'"root":"{address.rstrip("/")}"' in answer.read().decode().replace(": ", ":")
        job = Client(address, verbose=False).submit(prompt="the cat", bits=4, new_tokens=40, api_name="/generate")
        job.result(timeout=60)
        assert len(job.outputs()) > 10 and job.outputs()[-1]["compressed"]


@pytest.mark.browser
def test_behind_nginx_under_a_path_the_page_works(browser: Browser, bench: Workbench, tmp_path: Path) -> None:
    with proxied(bench, tmp_path) as address:
        page, problems = browser.new_page(viewport={"width": 1366, "height": 768}), list[str]()
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else problems.append(r.url))
        page.goto(address)
        works(page, page)
        assert "bits=4" in page.url and page.url.startswith(address)
        page.close()
        assert not problems, "\n".join(problems)
