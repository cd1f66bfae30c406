"""Under which names the page answers: its own, and no other that might have been pointed at this computer."""

import socket
from types import SimpleNamespace

import psutil
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from explorer.ui import guard
from explorer.ui.standing import Standing

OWN = ("box", "BOX:7860", "box.local", "box.lan", "192.0.2.7", "192.0.2.7:7860", "[fe80::7]:7860")


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def part(family: int, address: str) -> SimpleNamespace:
        return SimpleNamespace(family=family, address=address)

    cable = [part(socket.AF_INET, "192.0.2.7"), part(socket.AF_INET6, "fe80::7%eth0"), part(-1, "02:fc:00:00:00:01")]
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"eth0": cable})
    monkeypatch.setattr(socket, "gethostname", lambda: "box")
    monkeypatch.setattr(socket, "getfqdn", lambda: "box.lan")


def answer(listening: str, name: str) -> int:
    app = Starlette(
        routes=[Route("/", lambda request: PlainTextResponse("the page"))],
        middleware=guard.middleware(Standing(host=listening)),
    )
    return TestClient(app).get("/", headers={"Host": name}).status_code


@pytest.mark.parametrize("listening", ["0.0.0.0", "::", "[::]"])
def test_who_listens_everywhere_answers_to_its_own_names_only(listening: str) -> None:
    for name in (*OWN, "localhost:7860", "127.0.0.1"):
        assert answer(listening, name) == 200, name
    for name in ("evil.example", "box.evil.example", "192.0.2.8", "[fe80::8]", "02:fc:00:00:00:01", ""):
        assert answer(listening, name) == 400, name


def test_who_listens_at_one_address_answers_to_that_and_to_loopback() -> None:
    for name in OWN:
        assert answer("127.0.0.1", name) == 400, name
    assert answer("127.0.0.1", "localhost") == answer("192.0.2.7", "192.0.2.7:7860") == 200
    assert answer("192.0.2.7", "box") == 400
