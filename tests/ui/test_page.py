"""The started app over HTTP: endpoints, hostile values, other web sites, two visitors."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client

from explorer.ui.asks import RECIPE_CONTROLS, Controls
from explorer.ui.page import build
from explorer.ui.serving import launch
from explorer.ui.standing import Standing
from explorer.workbench.workbench import Workbench


@pytest.fixture(scope="module")
def address(folders: dict[str, Path]) -> Iterator[str]:
    bench = Workbench(str(folders["llama"])).load()
    list(bench.prepare())
    page = build(bench)
    yield launch(page, Standing())
    page.close()


SETTING = list(Controls(sparsity=50, bits="4", head_bits="8", prompt="the cat", length=5))


def ask(address: str, name: str, *values: object) -> tuple[object, ...]:
    return tuple(Client(address, verbose=False).predict(*values, api_name=name))


def post(address: str, path: str, headers: dict[str, str], body: bytes = b"{}") -> int:
    request = urllib.request.Request(
        address.rstrip("/") + path, data=body, headers={"Content-Type": "application/json", **headers}
    )
    try:
        return urllib.request.urlopen(request, timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError:
        return 403  # refused and closed while the body was still being sent


def test_preview_answers_with_the_calculated_size(address: str) -> None:
    assert "calculated" in str(ask(address, "/preview", *SETTING)[1])


def test_write_ends_with_both_texts_and_the_measured_numbers(address: str) -> None:
    verdict, cards, plot, original, compressed, status, _ = ask(address, "/write", *SETTING)
    assert "measured" in str(cards) and "Original" in str(original) and "50 % zeros" in str(compressed)
    assert 'data-state="done"' in str(status) and "smaller" in str(verdict)


@pytest.mark.parametrize("bad", [None, "x", -1, 1e308, [1], {"a": 1}, True])
def test_hostile_values_leave_the_server_answering(address: str, bad: object) -> None:
    ask(address, "/preview", *[bad] * len(RECIPE_CONTROLS), "x", bad, bad, bad, True)
    assert "calculated" in str(ask(address, "/preview", *SETTING)[1])


def test_two_clients_do_not_disturb_each_other(address: str) -> None:
    jobs = [
        Client(address, verbose=False).submit(sparsity, *SETTING[1:], api_name="/write") for sparsity in (0, 30, 60)
    ]
    for job, words in zip(jobs, ("4 bits", "30 % zeros", "60 % zeros"), strict=True):
        assert words in str(job.result(timeout=60)[4])


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_requests_from_other_sites_are_refused(address: str, headers: dict[str, str]) -> None:
    body = json.dumps({"data": SETTING}).encode()
    assert post(address, "/gradio_api/call/preview", headers, body) == 403
    assert post(address, "/gradio_api/call/preview", {}, body) == 200


def test_other_host_names_uploads_and_large_bodies_are_refused(address: str) -> None:
    assert post(address, "/gradio_api/call/preview", {"Host": "evil.example"}) == 400
    assert post(address, "/gradio_api/upload", {}) == 403
    assert post(address, "/gradio_api/call/preview", {}, b"[" + b" " * 2_000_000 + b"]") == 403


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "pyproject.toml", "app.py", "../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd"]
)
def test_no_file_but_the_page_s_own_is_served(address: str, path: str) -> None:
    file = Path(__file__).parents[2] / path
    for url in (f"/gradio_api/file={path}", f"/gradio_api/file={file}", f"/static/{path}"):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(address.rstrip("/") + url, timeout=10)
