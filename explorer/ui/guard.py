"""Who may talk to the server: the page itself, under the names it was started with. Stops other web sites from
reaching a server on this computer (cross-site requests, DNS rebinding) and tells the browser to load nothing else."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
LARGEST_BODY = 1_000_000
HEADERS = {
    b"content-security-policy": b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self'; font-src 'self' data:; "
    b"worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}


class Guard:
    """Refuses requests that another site sent, uploads, and bodies that are too large."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin1").lower(): value.decode("latin1") for name, value in scope["headers"]}
        problem = _problem(scope["method"], scope["path"], headers)
        if problem:
            await PlainTextResponse(problem, status_code=403)(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return {"type": "http.disconnect"} if received > LARGEST_BODY else message

        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS.items()]
            await send(message)

        await self.app(scope, limited, labelled)


def middleware(hosts: Sequence[str]) -> list[Middleware]:
    """For `launch(app_kwargs={"middleware": …})`; `hosts` are the names the page is served under besides loopback."""
    return [Middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, *hosts]), Middleware(Guard)]


def _problem(method: str, path: str, headers: dict[str, str]) -> str:
    if method in ("GET", "HEAD", "OPTIONS"):
        return ""
    if path.endswith("/upload"):
        return "This page takes no uploads."
    if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        return "This request came from another site."
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        return "This request came from another site."
    length = headers.get("content-length", "0")
    return "This request is too large." if not length.isdigit() or int(length) > LARGEST_BODY else ""
