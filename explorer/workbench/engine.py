"""Where work on the model is done: one step at a time, on a thread of its own; nothing is held across a yield."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

R = TypeVar("R")


class Engine:
    """The one thread that owns torch, opening included: a second one would bring its own team, and OpenMP lets workers
    that outnumber the cores sleep between products (13 against 6 ms a token)."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._owner = self._pool.submit(threading.current_thread).result()

    def step(self, work: Callable[[], R]) -> R:
        """One step, from whatever thread it is asked for."""
        if threading.current_thread() is self._owner:
            return work()
        return self._pool.submit(work).result()

    def steps(self, work: Iterator[R]) -> Iterator[R]:
        """Each step of an iterator, one at a time; a caller may stop in between."""
        while (found := self.step(lambda: next(work, None))) is not None:
            yield found
