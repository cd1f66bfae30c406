"""What each visit wants now: work for what it no longer wants ends at its next step."""

from collections import OrderedDict
from collections.abc import Callable

from explorer.ui.asks import Ask

VISITS_KEPT = 256


class Visits:
    """By the name of the visit; the oldest are forgotten."""

    def __init__(self) -> None:
        self._wanted: OrderedDict[str, Ask | None] = OrderedDict()

    def want(self, session: str, ask: Ask | None) -> Ask | None:
        """What the visit wants now; wanting the same again does not disturb the work for it. None: nothing more."""
        if self._wanted.get(session) != ask or session not in self._wanted:
            self._wanted[session] = ask
        self._wanted.move_to_end(session)
        while len(self._wanted) > VISITS_KEPT:
            self._wanted.popitem(last=False)
        return self._wanted[session]

    def wants(self, session: str, ask: Ask) -> bool:
        """Whether this is still what the visit wants, or nothing is known of it."""
        return self._wanted.get(session, ask) == ask

    def gone(self, session: str, ask: Ask) -> Callable[[], bool]:
        """Whether the visit wants something else by now than this very ask."""
        return lambda: self._wanted.get(session) is not ask

    def leave(self, session: str) -> None:
        """The visitor is gone: work for this visit ends at its next step."""
        self.want(session, None)
        self._wanted.pop(session, None)

    def leave_all(self) -> None:
        """Nobody wants anything any more of what was asked for so far."""
        self._wanted.update(dict.fromkeys(self._wanted))
