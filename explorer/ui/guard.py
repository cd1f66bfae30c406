"""Who may talk to the server: the page itself, under the names it was started with. Stops other web sites from
reaching a server on this computer (cross-site requests, DNS rebinding) and tells the browser to load nothing else."""

import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

import psutil
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from explorer.ui.standing import LOOPBACK, Standing

WILDCARDS = ("0.0.0.0", "::", "[::]")  # listen on every address that this computer has
LARGEST_BODY = 1_000_000
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self' data:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)


class Guard:
    """Refuses requests that another site sent, uploads, and bodies that are too large; only `frames` may show the page
    in a frame of theirs."""

    def __init__(self, app: ASGIApp, frames: Sequence[str] = ()) -> None:
        self.app = app
        self.headers = {
            b"content-security-policy": " ".join([POLICY, *frames]).encode(),
            b"x-content-type-options": b"nosniff",
            b"referrer-policy": b"no-referrer",
        }

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
                message["headers"] = [*message.get("headers", []), *self.headers.items()]
            await send(message)

        await self.app(scope, limited, labelled)


def middleware(standing: Standing) -> list[Middleware]:
    """For `launch(app_kwargs={"middleware": …})`."""
    host = standing.host
    names = [*LOOPBACK, host, *(_own_names() if host in WILDCARDS else ()), *standing.names]
    return [Middleware(TrustedHostMiddleware, allowed_hosts=names), Middleware(Guard, frames=standing.frames)]


def _own_names() -> list[str]:
    """What other computers call this one: its host names and its addresses."""
    name = socket.gethostname()
    parts = [part for parts in psutil.net_if_addrs().values() for part in parts]
    ipv4 = [part.address for part in parts if part.family == socket.AF_INET]
    ipv6 = [part.address.partition("%")[0] for part in parts if part.family == socket.AF_INET6]  # less its interface
    return [name, f"{name}.local", socket.getfqdn(), *ipv4, *(f"[{address}]" for address in ipv6)]


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
