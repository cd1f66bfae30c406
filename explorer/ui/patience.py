"""When a slider waits for the Apply button: where the last changes of a visit took long."""

from collections import OrderedDict, deque

# Slow changes and live ones apart. Live ones take a second and a half on a busy machine now and then, where a button
# would cost more than it saves.
LOOKED_AT, LONG_SECONDS = 2, {True: 1.5, False: 4.0}
KEPT = 512


class Patience:
    """What the last changes of each visit took, by visit and by whether they were of the slow kind."""

    def __init__(self) -> None:
        self._took: OrderedDict[tuple[str, bool], deque[float]] = OrderedDict()

    def took(self, session: str, slow: bool, seconds: float) -> None:
        self._took.setdefault((session, slow), deque(maxlen=LOOKED_AT)).append(seconds)
        while len(self._took) > KEPT:
            self._took.popitem(last=False)

    def waits(self, session: str, slow: bool) -> float:
        """The seconds that all of the last changes took at least, where that is too long; else 0."""
        took = self._took.get((session, slow), ())
        least = min(took, default=0.0)
        return least if len(took) == LOOKED_AT and least > LONG_SECONDS[slow] else 0.0
