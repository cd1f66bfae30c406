"""Where the page may stand: what each word opens, and that nothing else is opened with it."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from explorer.ui import guard
from explorer.ui.standing import Standing, standing

SPACE = {"SPACE_ID": "owner/explorer", "SPACE_HOST": "owner-explorer.hf.space", "SYSTEM": "spaces"}
SPACE |= {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": "7861"}


def client(where: Standing) -> TestClient:
    routes = [Route("/", lambda request: PlainTextResponse("the page"), methods=["GET", "POST"])]
    return TestClient(Starlette(routes=routes, middleware=guard.middleware(where)))


def frames(where: Standing) -> str:
    told = client(where).get("/", headers={"Host": "localhost"}).headers["content-security-policy"]
    return told.rpartition("frame-ancestors ")[2]


def test_by_default_it_is_on_loopback_in_nobody_s_frame_whatever_gradio_s_variables_say() -> None:
    stray = {name: value for name, value in SPACE.items() if name.startswith("GRADIO")}
    assert standing(stray) == standing({}) == Standing() and Standing().alone
    assert frames(Standing()) == "'self'"


def test_a_space_is_understood() -> None:
    where = standing(SPACE)
    assert (where.host, where.port, where.names) == ("0.0.0.0", 7861, ("owner-explorer.hf.space",))
    assert frames(where) == "'self' https://huggingface.co" and not where.alone
    assert client(where).get("/", headers={"Host": "owner-explorer.hf.space"}).status_code == 200
    assert client(where).get("/", headers={"Host": "other.hf.space"}).status_code == 400
    assert (standing({"SPACE_ID": "a/b"}).host, standing({"SPACE_ID": "a/b"}).port) == ("0.0.0.0", 7860)
    assert standing(SPACE, "127.0.0.1", 9000).port == 9000
    with pytest.raises(ValueError, match="no port"):
        standing(SPACE | {"GRADIO_SERVER_PORT": "x"})


def test_who_posts_from_the_frame_s_own_page_is_heard_and_no_other_site() -> None:
    where = standing(SPACE)
    for origin, status in (("https://owner-explorer.hf.space", 200), ("https://huggingface.co", 403)):
        headers = {"Host": "owner-explorer.hf.space", "Origin": origin}
        assert client(where).post("/", headers=headers).status_code == status, origin


@pytest.mark.parametrize("origin", ["https://example.org", "http://localhost:8888", "http://localhost:*"])
def test_a_frame_is_opened_by_its_origin(origin: str) -> None:
    assert frames(standing({}, frames=[origin])) == f"'self' {origin}"


@pytest.mark.parametrize(
    "origin",
    ["*", "example.org", "https://*", "https://a.b/c", "https://a.b; script-src *", "https://a b", "data:", ""],
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="--embed takes an origin"):
        standing({}, frames=[origin])


def test_a_root_names_its_server_where_it_is_an_address() -> None:
    where = standing({}, root="https://example.org/explorer/")
    assert where.root == "https://example.org/explorer" and where.names == ("example.org",) and not where.alone
    assert client(where).get("/", headers={"Host": "example.org"}).status_code == 200
    path = standing({}, root="/explorer")
    assert path.names == () and not path.alone
    assert client(path).get("/", headers={"Host": "example.org"}).status_code == 400
    for wrong in ("explorer", "/a b", "javascript:alert(1)", "//evil.example/x", "/<script>"):
        with pytest.raises(ValueError, match="--root-path"):
            standing({}, root=wrong)
