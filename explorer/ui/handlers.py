"""What happens on the page, as plain functions: control values → recipe → workbench → views. No gradio, no torch.

There is no current recipe: each visit says what it asks for, and work for an older ask of the same visit ends at its
next step. A View's fields are in the order of the page's outputs; None leaves a part as it is.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from explorer.contest import Contest
from explorer.presets import PRESETS
from explorer.recipe import Recipe
from explorer.records import Measurement, Piece
from explorer.ui import charts, landscape, lesson_page, views
from explorer.ui.asks import Ask, Controls, ask_from, controls_from
from explorer.ui.patience import Patience
from explorer.ui.views import say
from explorer.variants import Variant
from explorer.workbench import Workbench

FIRST_TOKENS, LIVE_TOKENS = 200, 1000
# The first round is shown at once, the others narrow it: the prompt is as long as what people ask, no longer.
TIMING_ROUNDS, DECODE_STEPS, PROMPT_TOKENS = 5, 4, 32
UPDATE_SECONDS = 0.1
SESSIONS_KEPT, RECORDS_KEPT = 256, 64


Found = tuple[str | None, str | None]  # what a study found so far and the status line; None for no change
Work = Callable[[Ask], Iterator[Found]]
T = TypeVar("T")


class View(NamedTuple):
    """Everything on the page that can change."""

    cards: str | None = None
    plot: str | None = None
    original: str | None = None
    compressed: str | None = None
    status: str | None = None
    query: str | None = None


class Desk:
    """The handlers of one workbench."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self._wanted: OrderedDict[str, Ask | None] = OrderedDict()
        self._recorded: OrderedDict[Ask, tuple[str, View]] = OrderedDict()
        self.patience = Patience()
        self.contest: Contest | None = None  # with the last rival that was met

    def start(self, query: Mapping[str, str]) -> Iterator[tuple[tuple[Any, ...] | None, str, View]]:
        """First view of a visit: waits for the model, then sets the controls from the address."""
        while not self.bench.ready.wait(0.3):
            if self.bench.problem:
                yield None, "", View(status=views.status(self.bench.problem, "error"))
                return
            yield None, "", View(status=views.status(say("loading", message=self.bench.message), "loading"))
        recipe, problem = Recipe(), ""
        try:
            known = Recipe().to_dict()
            recipe = Recipe.from_dict({k: v for k, v in query.items() if k in known})
        except ValueError as error:
            problem = say("failed", problem=error)
        loaded = self.bench.loaded
        header = views.header(f"{loaded.name}, from {loaded.source}.", self.bench.notes(), lesson_page.links())
        header += lesson_page.section(query)
        sentence = views.status(problem or say("ready"), "error" if problem else "ready")
        yield (
            controls_from(recipe),
            header,
            View(cards=self._cards(recipe), plot=self._plot(recipe), status=sentence),
        )

    def preset(self, name: str) -> tuple[Any, ...]:
        return controls_from(PRESETS[name])

    def preview(self, values: Controls, session: str) -> View:
        """The numbers that arithmetic gives, at once; also tells older work of this visit to end."""
        if not self.bench.ready.is_set():
            return View()
        self.bench.preparation.moved()
        try:
            ask = self.ask(values)
        except ValueError as error:
            self._want(session, None)  # older work must not talk over this
            return View(status=views.status(say("failed", problem=error), "error"))
        self._want(session, ask)
        words = views.status(say("moved", words=ask.recipe.words()), "busy")
        return View(cards=self._cards(ask.recipe), status=words, query=ask.recipe.to_query())

    def stop(self, session: str) -> View:
        self._want(session, None)
        return View(status=views.status(say("stopped"), "stopped"))

    def leave(self, session: str) -> None:
        """The visitor is gone: work for this visit ends at its next step."""
        self._want(session, None)
        self._wanted.pop(session, None)

    def live(self, values: Controls, session: str, moved: bool = False) -> Iterator[View]:
        """Real weights, real text, real measurements of a setting; `moved`: a slider came to rest there, and may have
        moved on, or may have to wait for the button."""
        if not self.bench.ready.is_set():
            return
        try:
            ask = self.ask(values)
        except ValueError as error:
            yield View(status=views.status(say("failed", problem=error), "error"))
            return
        if moved:
            if self._wanted.get(session, ask) != ask:
                return
            seconds = self.patience.waits(session, ask.recipe.slow)
            if seconds and not self.bench.variants.known(ask.recipe):
                told = say("waits", words=ask.recipe.words(), seconds=f"{seconds:.1f}")
                yield View(status=views.status(told, "waits"))
                return
        ask = self._want(session, ask) or ask

        def gone() -> bool:
            return self._wanted.get(session) is not ask

        with self.bench.visit():
            for view in _guarded(lambda: self._follow(ask, session, gone), lambda line: View(status=line)):
                if gone():
                    break
                yield view
        if gone():
            yield View()  # gradio sends the last view again when a stream ends: it must say nothing

    def _follow(self, ask: Ask, session: str, gone: Callable[[], bool]) -> Iterator[View]:
        """Apply → texts begin → first quality → texts → timing → better figures; everything belongs to one setting."""
        recipe, began = ask.recipe, time.perf_counter()
        yield _busy(say("applying", words=recipe.words()), query=recipe.to_query())
        if not recipe.data_free:
            for share in self.bench.prepare():
                yield _busy(say("preparing", share=f"{share * 100:.0f}"))
        known_before, applied = self.bench.variants.known(recipe), time.perf_counter()
        for share in self.bench.apply(recipe, gone):
            if gone() and not self.bench.variants.curves.get(recipe):
                return  # where healing has begun, what it reached is kept
            if recipe.slow and not gone():
                yield _busy(self._how_far(recipe, share))
        if gone():
            self._keep_healed(recipe)
            return
        variant = self.bench.variant(recipe)
        if not known_before:
            self.patience.took(session, recipe.slow, time.perf_counter() - applied)
        known = self.bench.record(variant)
        yield _busy(say("applying", words=recipe.words()), cards=self._cards(recipe))
        writing, rounds = self._write(ask, gone), self._timed(variant, gone)
        texts, count, panes = next(writing)  # the text begins, and goes on once the first figure is there
        yield panes
        for _ in self._judged(variant, FIRST_TOKENS, gone):
            pass
        tokens = _tokens(self.bench.measured(recipe))
        yield _busy(say("judging", tokens=tokens), cards=self._cards(recipe), plot=self._plot(recipe))
        for written in writing:
            texts, count, panes = written
            yield panes._replace(status=views.status(say("writing", tokens=count), "busy"))
        if known.speed is None:
            yield _busy(say("timing"))
            next(rounds, None)
        if gone():
            return
        same = views.same_words(*texts)
        differ = say("done_same") if same is None else say("done_differ", same=same)
        seconds = f"{time.perf_counter() - began:.1f}"
        finished = panes._replace(
            cards=self._cards(recipe),
            plot=self._plot(recipe),
            query=recipe.to_query(),
            status=views.status(say("done", seconds=seconds, words=recipe.words(), differ=differ), "done"),
        )
        self._record(ask, finished)
        yield finished
        # everything belongs to this setting now; more rounds and more text only narrow the intervals
        before = self.bench.measured(recipe)
        for _ in chain(rounds, self._judged(variant, LIVE_TOKENS, gone)):
            yield View(cards=self._cards(recipe))
        if self.bench.measured(recipe) is not before:
            finished = finished._replace(cards=self._cards(recipe), plot=self._plot(recipe))
            self._record(ask, finished)
            yield finished

    def _judged(self, variant: Variant, tokens: int, gone: Callable[[], bool]) -> Iterator[Measurement]:
        """Quality, kept passage by passage; nothing where it is known on so many tokens."""
        if _tokens(self.bench.measured(variant.recipe)) < tokens:
            for quality in self.bench.judge(variant.recipe, tokens, gone):
                yield self.bench.record(variant, quality=quality)

    def _timed(self, variant: Variant, gone: Callable[[], bool]) -> Iterator[Measurement]:
        """Original and variant in turns, kept round by round; nothing where all rounds are known."""
        known = self.bench.measured(variant.recipe)
        if known and known.speed and (known.speed.prefill_ms.n or 0) >= TIMING_ROUNDS:
            return
        how: dict[str, Any] = {"prompt_tokens": PROMPT_TOKENS, "quick": True, "stopped": gone}
        for original, compressed in self.bench.time(variant.recipe, TIMING_ROUNDS, DECODE_STEPS, **how):
            if variant.recipe != Recipe():
                self.bench.record(self.bench.variant(Recipe()), speed=original)
            yield self.bench.record(variant, speed=compressed)

    def _keep_healed(self, recipe: Recipe) -> None:
        """A row for the recipe of as many steps as were done before Stop."""
        curve = self.bench.variants.curves.get(recipe)
        done = replace(recipe, heal=curve[-1].step if curve else 0)
        if recipe.heal and done != recipe and self.bench.variants.known(done):
            self.bench.record(self.bench.variant(done))

    def recorded(self, ask: Ask) -> View | None:
        """What the page showed when this was last run to its end, and the time it says so; None where it never was."""
        if ask not in self._recorded:
            return None
        clock, view = self._recorded[ask]
        return view._replace(status=views.status(say("recorded", time=clock, words=ask.recipe.words()), "done"))

    def _record(self, ask: Ask, view: View) -> None:
        self._recorded[ask] = time.strftime("%H:%M"), view
        while len(self._recorded) > RECORDS_KEPT:
            self._recorded.popitem(last=False)

    def _how_far(self, recipe: Recipe, share: float) -> str:
        """What is told of slow work: the student's progress while it heals, else the share done."""
        curve = self.bench.variants.curves.get(recipe) if recipe.heal else None
        if not curve or curve[-1].step == recipe.heal:
            return say("working", share=f"{share * 100:.0f}", words=recipe.words())
        last, left = curve[-1], curve[-1].seconds_left.value
        told = {"step": last.step, "steps": last.steps, "kl": f"{last.kl.value:.4f}"}
        return say("healing", **told, left=f"{left:.0f}" if left == left else "…")

    def _write(self, ask: Ask, gone: Callable[[], bool]) -> Iterator[tuple[tuple[str, str], int, View]]:
        """Both texts, a token each in turn; the page is told at most every `UPDATE_SECONDS`."""
        sides = [None] if ask.recipe == Recipe() else [None, ask.recipe]  # the original is not asked twice
        writers = [self.bench.write(side, ask.prompt, gone) for side in sides]
        last = [Piece(text="", token=0, tokens=0, ms=0.0), Piece(text="", token=0, tokens=0, ms=0.0)]
        shown, ended = 0.0, [False, False]
        while not all(ended):
            for i, writer in enumerate(writers):
                piece = next(writer, None)
                ended[i] = piece is None
                last[i] = piece or last[i]
            if len(writers) == 1:
                last[1], ended[1] = last[0], ended[0]
            if time.perf_counter() - shown > UPDATE_SECONDS or all(ended):
                shown = time.perf_counter()
                texts = (last[0].text, last[1].text)
                view = View(
                    original=views.written_by(None, last[0], texts[1]),
                    compressed=views.written_by(ask.recipe, last[1], texts[0]),
                )
                yield texts, max(piece.tokens for piece in last), view

    def in_full(self, values: Controls, session: str, work: Work) -> Iterator[Found]:
        """What `work` finds out, told at most once a second and at its end; Stop and a new setting end it."""
        if not self.bench.ready.is_set():
            return

        def told() -> Iterator[Found]:
            ask = self.ask(values)
            ask = self._want(session, ask) or ask
            shown, found = 0.0, None
            with self.bench.visit():
                for found in work(ask):
                    if self._wanted.get(session) is not ask:
                        yield None, None  # gradio sends the last part again when a stream ends: it must say nothing
                        return
                    if time.perf_counter() - shown > 1:
                        shown = time.perf_counter()
                        yield found
            if found:
                yield found

        yield from _guarded(told, lambda line: (None, line))

    def applied(self, recipe: Recipe) -> Iterator[Found]:
        """A study's first part: the setting's model, made where it is not there yet."""
        for share in self.bench.apply(recipe):
            yield None, views.status(say("working", share=f"{share * 100:.0f}", words=recipe.words()), "busy")

    def replot(self, values: Controls) -> str | None:
        """The plot for these controls; None where they are no setting."""
        try:
            return self._plot(self.ask(values).recipe)
        except ValueError:
            return None

    def calibration(self) -> tuple[str, bool]:
        """What the page says of the calibration, and whether it is done."""
        there = self.bench.ready.is_set()
        share, tokens = self.bench.prepared, self.bench.facts.tokens if there else 0
        if there and self.bench.preparation.note:
            return views.calibration(self.bench.preparation.note, share), True
        if share == 1.0:
            curves = self.bench.curves
            name = "calibrated" if curves.done == 1 else "curves"
            words = say(name, tokens=f"{tokens:,}", share=f"{curves.done:.0%}".replace("%", " %"))
            bar = views.calibration(words, 1.0)
            return bar + landscape.style(curves.whole), curves.done == 1
        words = say("calibrating_more", tokens=f"{tokens:,}") if tokens else say("calibrating")
        return views.calibration(f"{words} {share:.0%}".replace("%", " %"), share), False

    def ask(self, values: Controls) -> Ask:
        return ask_from(values, calibrated=self.bench.prepared == 1.0)

    def _cards(self, recipe: Recipe) -> str:
        known = self.bench.measured(recipe)
        size = known.size if known else self.bench.preview(recipe)
        told = self.bench.curves.told(recipe)
        return views.cards(recipe, size, self.bench.cost(recipe), known, self.bench.measured(Recipe()), told)

    def _plot(self, recipe: Recipe) -> str:
        return charts.size_and_quality(self.bench.history(), recipe, self.contest)

    def _want(self, session: str, ask: Ask | None) -> Ask | None:
        """What the visit wants now; wanting the same again does not disturb the work for it."""
        if self._wanted.get(session) != ask or session not in self._wanted:
            self._wanted[session] = ask
        self._wanted.move_to_end(session)
        while len(self._wanted) > SESSIONS_KEPT:
            self._wanted.popitem(last=False)
        return self._wanted[session]


def _guarded(work: Callable[[], Iterator[T]], failed: Callable[[str], T]) -> Iterator[T]:
    """What `work` finds; a failure becomes one sentence in the status line, one not foreseen also a line in the log."""
    try:
        yield from work()
    except (ValueError, MemoryError) as problem:
        yield failed(views.status(say("failed", problem=problem), "error"))
    except Exception:
        logging.getLogger(__name__).exception("a handler failed")
        fault = "an unexpected fault; the terminal says more."
        yield failed(views.status(say("failed", problem=fault), "error"))


def _busy(sentence: str, **parts: str) -> View:
    return View(status=views.status(sentence, "busy"), **parts)


def _tokens(known: Measurement | None) -> int:
    return known.quality.tokens if known and known.quality else 0
