"""Who listens to what was asked: each page holds one stream of answers open. Work for a visit whose stream is
closed, or was never opened, ends, so that nobody waits for what nobody hears."""

import time
from collections import Counter
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

GRACE = 5.0  # seconds until a stream that was asked for is open
STREAM = "/queue/data"


class Listeners:
    """Open streams by the name of the visit; counts them once requests pass through `watched`."""

    def __init__(self) -> None:
        self.watching = False
        self._open = Counter[str]()

    def silent(self, session: str, asked: float) -> bool:
        """Whether nobody listens to what this visit asked for at that time (monotonic seconds)."""
        return self.watching and not self._open[session] and time.monotonic() - asked > GRACE

    def watched(self, app: ASGIApp) -> ASGIApp:
        """A layer for the server that sees streams open and close."""
        self.watching = True

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or not scope["path"].endswith(STREAM):
                await app(scope, receive, send)
                return
            (session,) = parse_qs(scope["query_string"].decode("latin1")).get("session_hash", [""])[:1]
            self._open[session] += 1
            try:
                await app(scope, receive, send)
            finally:
                self._open[session] -= 1
                if not self._open[session]:
                    del self._open[session]

        return counted


LISTENERS = Listeners()  # a process serves one page
