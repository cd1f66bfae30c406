"""Work ends where nobody listens: streams are counted as they open and close."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from explorer.ui import listeners, stage
from explorer.ui.listeners import Listeners

LONG_AGO = 0.001  # after any Stop of nobody's, long before now


def test_a_stream_is_heard_while_it_is_open() -> None:
    heard, seen = Listeners(), list[bool]()
    assert not heard.silent("a", LONG_AGO)  # before requests are seen nothing is known

    def answer(request: Any) -> PlainTextResponse:
        seen.append(heard.silent("a", LONG_AGO))
        return PlainTextResponse("")

    routes = [Route("/gradio_api/queue/data", answer), Route("/other", answer)]
    client = TestClient(heard.watched(Starlette(routes=routes)))
    client.get("/gradio_api/queue/data?session_hash=a")
    client.get("/gradio_api/queue/data?session_hash=b")
    client.get("/other?session_hash=a")
    assert seen == [False, True, True] and heard.silent("a", LONG_AGO)
    assert not heard.silent("a", time.monotonic())  # it may open yet


def test_what_nobody_hears_ends_at_its_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, left = Listeners(), list[str]()
    monkeypatch.setattr(stage, "LISTENERS", heard)
    desk = SimpleNamespace(visits=SimpleNamespace(leave=left.append), bench=None)
    page = stage.Stage(None, desk, True)  # type: ignore[arg-type]
    done = list[int]()

    def work(request: Any) -> Any:
        for step in range(5):
            done.append(step)
            yield step
            heard.watching = step >= 1  # the stream closes

    def request(path: str) -> Any:
        return SimpleNamespace(session_hash="a", state=SimpleNamespace(asked=LONG_AGO), url=SimpleNamespace(path=path))

    assert list(page.until_stop(work)(request("/gradio_api/queue/join"))) == [0, 1]
    assert done == [0, 1, 2] and left == ["a"]
    heard.watching = True
    assert list(page.until_stop(work)(request("/gradio_api/call/apply"))) == [0, 1, 2, 3, 4]
    assert listeners.GRACE < 10
