"""Facts of one model worked out in the pauses of everything else, once, and kept on disk."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

from torch import nn

from explorer import assets
from explorer.layers.targets import targets
from explorer.model.calibrating import ALL_TOKENS, windows_of
from explorer.model.facts import Facts, least_bytes
from explorer.model.memory import SHARE, free_bytes
from explorer.model.writing import context_length

SMALL, FEWEST = 300_000_000, 4096  # weights up to which all tokens are calibrated on, and tokens for the largest
PATIENCE = 2.0  # seconds after a visitor's last move: who moves one slider often moves on


class Preparation:
    """`done` is the share done, `note` says why it ends early; `step` runs work on the model where it may run, and
    `better` is called on that thread whenever what was made before is out of date."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        facts: Facts,
        step: Callable[[Callable[[], Any]], Any],
        better: Callable[[], None],
    ) -> None:
        self._model, self._tokenizer, self._facts = model, tokenizer, facts
        self._step, self._better = step, better
        self._turn = threading.Lock()
        self._visitors = self._waiting = 0
        self._closed = False
        self._moved = -math.inf
        self._thread: threading.Thread | None = None
        self.done = 1.0 if facts.load() else 0.0
        self.seconds, self.note = 0.0, " ".join(facts.notes)

    def steps(self) -> Iterator[float]:
        """Calibrate, work out the facts, keep them on disk; yields the share done. A second caller waits."""
        if not self._turn.acquire(blocking=False):
            self._waiting += 1
            try:
                while not self._turn.acquire(timeout=0.2):
                    yield self.done
            finally:
                self._waiting -= 1
        try:
            if self.done < 1.0:
                yield from self._work()
        finally:
            self._turn.release()

    def _work(self) -> Iterator[float]:
        started = time.perf_counter()
        model, facts = self._model, self._facts
        need, free = least_bytes(model), free_bytes()
        if need > SHARE * free:
            self.note = (
                f"Calibration would need {need / 1e9:,.1f} GB of memory for its largest block, and "
                f"{free / 1e9:,.1f} GB are free: rounding to nearest, zeros by size and plain factors work, what asks "
                "for inputs does not."
            )
            return
        length = min(512, context_length(model))
        tokens = tokens_for(weights_of(model))
        windows = windows_of(self._tokenizer, assets.texts("calibration"), tokens, length)
        stages = (facts.calibrate(model, windows), facts.prepare(model))
        for part, stage in enumerate(stages):
            level = facts.tokens
            while (share := self._step(partial(next, stage, None))) is not None:
                if facts.tokens != level:
                    level = facts.tokens
                    self._step(self._better)
                self.done = min((part + share) / len(stages), 0.999)
                yield self.done
        self._step(self._better)
        if tokens < ALL_TOKENS:
            facts.notes.append(f"Calibrated on {facts.tokens:,} tokens, since a model of this size takes long.")
        self._step(facts.save)
        self.done, self.note = 1.0, " ".join(facts.notes)
        self.seconds = time.perf_counter() - started

    def in_background(self, *parts: Callable[[], Iterator[Any]]) -> threading.Thread:
        """These parts, one after the other, on a thread that gives way to visitors."""

        def work() -> None:
            pause = threading.Event()
            try:
                for _ in chain.from_iterable(part() for part in parts):
                    while (self._visitors or self._restless) and not self._waiting and not self._closed:
                        pause.wait(0.05)
                    if self._closed:
                        return
            except Exception as fault:
                logging.getLogger(__name__).exception("preparing failed")
                self.note = f"Preparing ended early ({fault}): the terminal says more."

        self._thread = threading.Thread(target=work, name="prepare", daemon=True)
        self._thread.start()
        return self._thread

    def close(self, seconds: float = 60) -> None:
        """Ends the background's work at its next step, and waits until nobody is served any more, or so long."""
        self._closed, end = True, time.monotonic() + seconds
        while (self._visitors or self._thread is not None and self._thread.is_alive()) and time.monotonic() < end:
            time.sleep(0.05)

    def moved(self) -> None:
        """A visitor does something now: what comes after preparing pauses for a while."""
        self._moved = time.monotonic()

    @property
    def _restless(self) -> bool:
        """Somebody moved just now, and all that a setting needs is known: what only helps can wait."""
        return self.done == 1.0 and time.monotonic() < self._moved + PATIENCE

    @contextmanager
    def visit(self) -> Iterator[None]:
        """While a visitor is served, background work pauses."""
        self._visitors += 1
        try:
            yield
        finally:
            self._visitors -= 1
            self.moved()


def tokens_for(weights: float) -> int:
    """Tokens to calibrate on: fewer for larger models, as the time for each token goes up."""
    return max(FEWEST, int(ALL_TOKENS * min(1.0, SMALL / max(weights, 1)) ** 0.5))


def weights_of(model: nn.Module) -> int:
    """In the matrices of the model's blocks."""
    return sum(target.shape[0] * target.shape[1] for target in targets(model) if target.block >= 0)
