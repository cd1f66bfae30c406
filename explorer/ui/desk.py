"""What happens on the page, as plain functions: control values → recipe → workbench → views. No gradio, no torch.

There is no current recipe: each visit says what it asks for, and work for an older ask of the same visit ends at its
next step.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from explorer.ui.asks import Ask, Controls, ask_from, controls_from
from explorer.ui.known import Known
from explorer.ui.patience import Patience
from explorer.ui.run import Run
from explorer.ui.view import NOTHING, Found, Opened, Status, View
from explorer.ui.visits import Visits
from explorer.ui.words import words
from explorer.values.presets import PRESETS
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

RECORDS_KEPT = 64
UPDATE_SECONDS = 1.0  # between what a study tells

Work = Callable[[Ask], Iterator[Found]]
T = TypeVar("T")
say = words("status").say
STOPPED = Status(say("stopped"), "stopped")


class Desk:
    """The handlers of one workbench at a time; `number` counts them, `asked_by` says for whom it was opened."""

    number = 0

    def __init__(self, bench: Workbench, alone: bool = True) -> None:
        """`alone`: nobody waits for what is asked beyond what a visit asked for."""
        self.visits, self.alone = Visits(), alone
        self.take(bench)

    def take(self, bench: Workbench, asked_by: str = "") -> None:
        """From now on this workbench; work for all visits to the one before ends at its next step."""
        self.visits.leave_all()
        self.bench, self.known, self.patience = bench, Known(bench), Patience()
        self._recorded: OrderedDict[Ask, tuple[str, View]] = OrderedDict()
        self.number, self.asked_by = self.number + 1, asked_by

    def start(self, query: Mapping[str, str]) -> Iterator[tuple[tuple[Any, ...], View]]:
        """First views of a visit, each with values of the recipe's controls, None where one stays: what the address
        says of them at once, for who moves one while the model is waited for means it; the rest when it is there."""
        recipe, status = Recipe(), Status(say("ready"), "ready")
        try:
            known = Recipe().to_dict()
            recipe = Recipe.from_dict({k: v for k, v in query.items() if k in known})
        except ValueError as error:
            status = failure(error)
        plain = controls_from(Recipe())
        asked = tuple(None if value == plain[i] else value for i, value in enumerate(controls_from(recipe)))
        left = (None,) * len(plain)
        yield asked, NOTHING
        while not self.bench.ready.wait(0.3):
            if self.bench.problem:
                problem = say("no_model", problem=self.bench.problem)
                yield left, View(status=Status(problem, "error"))
                return
            yield left, View(status=Status(say("loading", message=self.bench.message), "loading"))
        loaded = self.bench.loaded
        notes = [say("asked_by", who=self.asked_by)] * bool(self.asked_by) + self.bench.notes()
        source = f"{loaded.name}, from {loaded.source}."
        opened = Opened(source=source, notes=notes, query=query, number=self.number)
        numbers, plane = self.known.numbers(recipe), self.known.plane(recipe)
        yield left, View(opened=opened, numbers=numbers, plane=plane, status=status)

    def preset(self, name: str) -> tuple[Any, ...]:
        """Values of the recipe's controls."""
        return controls_from(PRESETS[name])

    def preview(self, values: Controls, session: str) -> View:
        """The numbers that arithmetic gives, at once; also tells older work of this visit to end."""
        if not self.bench.ready.is_set():
            return NOTHING
        self.bench.preparation.moved()
        try:
            ask = self.ask(values)
        except ValueError as error:
            self.visits.want(session, None)  # older work must not talk over this
            return View(status=failure(error))
        self.visits.want(session, ask)
        status = Status(say("moved", words=ask.recipe.words()), "busy")
        return View(numbers=self.known.numbers(ask.recipe), status=status, query=ask.recipe.to_query())

    def stop(self, session: str) -> View:
        """Work for this visit ends at its next step."""
        self.visits.want(session, None)
        return View(status=STOPPED)

    def live(self, values: Controls, session: str, moved: bool = False) -> Iterator[View]:
        """Real weights, real text, real measurements of a setting; `moved`: a slider came to rest there, and may have
        moved on, or may have to wait for the button."""
        if not self.bench.ready.is_set():
            return
        try:
            ask = self.ask(values)
        except ValueError as error:
            yield View(status=failure(error))
            return
        if moved:
            if not self.visits.wants(session, ask):
                return
            seconds = self.patience.waits(session, ask.recipe.slow)
            if seconds and not self.bench.variants.known(ask.recipe):
                told = say("waits", words=ask.recipe.words(), seconds=f"{seconds:.1f}")
                yield View(status=Status(told, "waits"))
                return
        ask = self.visits.want(session, ask) or ask
        gone = self.visits.gone(session, ask)
        run = Run(self.known, ask, session, gone, self._record, questions=self.alone)
        with self.bench.visit():
            for view in _guarded(lambda: run.views(self.patience), lambda status: View(status=status)):
                if gone():
                    break
                yield view
        if gone():
            yield NOTHING  # gradio sends the last view again when a stream ends: it must say nothing

    def refresh(self, values: Controls) -> View:
        """What has become known of the settings tried; nothing where these controls are no setting."""
        try:
            return View(plane=self.known.plane(self.ask(values).recipe))
        except ValueError:
            return NOTHING

    def study(self, values: Controls, session: str, work: Work) -> Iterator[Found]:
        """What `work` finds out, told at most once a second and at its end; Stop and a new setting end it."""
        if not self.bench.ready.is_set():
            return

        def told() -> Iterator[Found]:
            ask = self.ask(values)
            ask = self.visits.want(session, ask) or ask
            gone = self.visits.gone(session, ask)
            shown, found = 0.0, None
            with self.bench.visit():
                for found in work(ask):
                    if gone():
                        yield None, None  # gradio sends the last part again when a stream ends: it must say nothing
                        return
                    if time.perf_counter() - shown > UPDATE_SECONDS:
                        shown = time.perf_counter()
                        yield found
            if found:
                yield found

        yield from _guarded(told, lambda status: (None, status))

    def applied(self, recipe: Recipe) -> Iterator[Found]:
        """A study's first part: the setting's model, made where it is not there yet."""
        for share in self.bench.apply(recipe):
            yield None, Status(say("working", share=f"{share * 100:.0f}", words=recipe.words()), "busy")

    def ask(self, values: Controls) -> Ask:
        """What these controls ask for. ValueError in one sentence."""
        return ask_from(values, calibrated=self.bench.prepared == 1.0)

    def recorded(self, ask: Ask) -> View | None:
        """What the page showed when this was last run to its end, and the time it says so; None where it never was."""
        if ask not in self._recorded:
            return None
        clock, view = self._recorded[ask]
        return replace(view, status=Status(say("recorded", time=clock, words=ask.recipe.words()), "done"))

    def _record(self, ask: Ask, view: View) -> None:
        self._recorded[ask] = time.strftime("%H:%M"), view
        while len(self._recorded) > RECORDS_KEPT:
            self._recorded.popitem(last=False)


def failure(problem: object) -> Status:
    """A problem in one sentence."""
    return Status(say("failed", problem=problem), "error")


def _guarded(work: Callable[[], Iterator[T]], failed: Callable[[Status], T]) -> Iterator[T]:
    """What `work` finds; a failure becomes one sentence in the status line, one not foreseen also a line in the log."""
    try:
        yield from work()
    except (ValueError, MemoryError) as problem:
        yield failed(failure(problem))
    except Exception:
        logging.getLogger(__name__).exception("a handler failed")
        yield failed(failure("an unexpected fault; the terminal says more."))
