"""One setting from its weights to its figures: apply → texts begin → first quality → texts → timing → better figures.
Everything that is told belongs to that setting."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

from explorer.ui.asks import Ask
from explorer.ui.known import Known
from explorer.ui.patience import Patience
from explorer.ui.view import Status, Texts, View
from explorer.ui.word_diff import same_words
from explorer.ui.words import words
from explorer.values.measurement import Measurement
from explorer.values.recipe import Recipe
from explorer.values.written import Piece
from explorer.workbench.variants import Variant

# The first round is shown at once, the others narrow it: the prompt is as long as what people ask, no longer.
TIMING_ROUNDS, DECODE_STEPS, PROMPT_TOKENS = 5, 4, 32
UPDATE_SECONDS = 0.1
say = words("status").say


class Run:
    """What one visit asked for; `gone` says that it wants something else by now, `ended` takes the last view;
    `questions`: the easy ones are asked too, which takes seconds that others would wait."""

    def __init__(
        self,
        known: Known,
        ask: Ask,
        session: str,
        gone: Callable[[], bool],
        ended: Callable[[Ask, View], None],
        questions: bool = True,
    ) -> None:
        self.known, self.bench = known, known.bench
        self.ask, self.recipe, self.session = ask, ask.recipe, session
        self.gone, self.ended, self.questions = gone, ended, questions

    def views(self, patience: Patience) -> Iterator[View]:
        """From the original to better figures; `patience` learns how long the change took."""
        began = time.perf_counter()
        variant = yield from self._applied(patience)
        if variant is None:
            return
        writing, rounds = self._write(), self._timed(variant)
        texts, view = next(writing)  # the text begins, and goes on once the first figure is there
        yield view
        first, enough = self.bench.judged_tokens
        for _ in self.bench.read_original(enough):
            if self.gone():
                return
        for _ in self._judged(variant, first):
            pass
        yield replace(
            busy(say("judging", tokens=tokens_of(self.bench.measured(self.recipe)))),
            numbers=self.known.numbers(self.recipe),
            plane=self.known.plane(self.recipe),
        )
        for texts, view in writing:
            count = max(texts.original.tokens, texts.compressed.tokens)
            yield replace(view, status=Status(say("writing", tokens=count), "busy"))
        known = self.bench.measured(self.recipe)
        if known is None or known.speed is None:
            yield busy(say("timing"))
            next(rounds, None)
        if self.gone():
            return
        finished = self._finished(texts, time.perf_counter() - began)
        yield finished
        yield from self._better(finished, chain(rounds, self._judged(variant, enough), self._questioned(variant)))

    def _applied(self, patience: Patience) -> Any:
        """Yields how far it is; returns the variant, or None where the visit has moved on."""
        recipe = self.recipe
        yield replace(busy(say("applying", words=recipe.words())), query=recipe.to_query())
        if not recipe.data_free:
            for share in self.bench.prepare():
                yield busy(say("preparing", share=f"{share * 100:.0f}"))
        known_before, started = self.bench.variants.known(recipe), time.perf_counter()
        for share in self.bench.apply(recipe, self.gone):
            if self.gone() and not self.bench.variants.curves.get(recipe):
                return None  # where healing has begun, what it reached is kept
            if recipe.slow and not self.gone():
                yield busy(self._how_far(share))
        if self.gone():
            self._keep_healed()
            return None
        variant = self.bench.variant(recipe)
        if not known_before:
            patience.took(self.session, recipe.slow, time.perf_counter() - started)
        self.bench.record(variant)
        yield replace(busy(say("applying", words=recipe.words())), numbers=self.known.numbers(recipe))
        return variant

    def _finished(self, texts: Texts, seconds: float) -> View:
        """The first view in which everything belongs to this setting."""
        same = same_words(texts.original.text, texts.compressed.text)
        differ = say("done_same") if same is None else say("done_differ", same=same)
        sentence = say("done", seconds=f"{seconds:.1f}", words=self.recipe.words(), differ=differ)
        finished = View(
            numbers=self.known.numbers(self.recipe),
            plane=self.known.plane(self.recipe),
            texts=texts,
            query=self.recipe.to_query(),
            status=Status(sentence, "done"),
        )
        self.ended(self.ask, finished)
        return finished

    def _better(self, finished: View, more: Iterator[Measurement]) -> Iterator[View]:
        """More rounds and more text only narrow the intervals."""
        before = self.bench.measured(self.recipe)
        for _ in more:  # the plot too: a tile and its star must not tell two figures
            yield View(numbers=self.known.numbers(self.recipe), plane=self.known.plane(self.recipe))
        if self.bench.measured(self.recipe) is not before:
            finished = replace(finished, numbers=self.known.numbers(self.recipe), plane=self.known.plane(self.recipe))
            self.ended(self.ask, finished)
            yield finished

    def _judged(self, variant: Variant, tokens: int) -> Iterator[Measurement]:
        """Quality, kept passage by passage; nothing where it is known on so many tokens."""
        if tokens_of(self.bench.measured(variant.recipe)) < tokens:
            for quality in self.bench.evaluate(variant.recipe, tokens, self.gone):
                yield self.bench.record(variant, quality=quality)

    def _questioned(self, variant: Variant) -> Iterator[Measurement]:
        """Last of all the easy questions, for the verdict; of a large model, or among visitors, only when
        somebody asks for them."""
        known = self.bench.measured(variant.recipe)
        if self.questions and self.bench.quick and variant.recipe != Recipe() and not (known and known.questions):
            for told in self.bench.questions(variant.recipe, stopped=self.gone):
                if told.complete:
                    yield self.bench.record(variant, questions=told)

    def _timed(self, variant: Variant) -> Iterator[Measurement]:
        """Original and variant in turns, kept round by round; nothing where all rounds are known."""
        known = self.bench.measured(variant.recipe)
        if known and known.speed and (known.speed.prefill_ms.n or 0) >= TIMING_ROUNDS:
            return
        how: dict[str, Any] = {"prompt_tokens": PROMPT_TOKENS, "quick": True, "stopped": self.gone}
        for original, compressed in self.bench.time(variant.recipe, TIMING_ROUNDS, DECODE_STEPS, **how):
            if variant.recipe != Recipe():
                self.bench.record(self.bench.variant(Recipe()), speed=original)
            yield self.bench.record(variant, speed=compressed)

    def _write(self) -> Iterator[tuple[Texts, View]]:
        """Both texts, a token each in turn; the page is told at most every `UPDATE_SECONDS`."""
        sides = [None] if self.recipe == Recipe() else [None, self.recipe]  # the original is not asked twice
        writers = [self.bench.write(side, self.ask.prompt, self.gone) for side in sides]
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
                texts = Texts(recipe=self.recipe, original=last[0], compressed=last[1])
                yield texts, View(texts=texts)

    def _how_far(self, share: float) -> str:
        """What is told of slow work: the student's progress while it heals, else the share done."""
        recipe = self.recipe
        curve = self.bench.variants.curves.get(recipe) if recipe.heal else None
        if not curve or curve[-1].step == recipe.heal:
            return say("working", share=f"{share * 100:.0f}", words=recipe.words())
        last, left = curve[-1], curve[-1].seconds_left.value
        told = {"step": last.step, "steps": last.steps, "kl": f"{last.kl.value:.4f}"}
        return say("healing", **told, left=f"{left:.0f}" if left == left else "…")

    def _keep_healed(self) -> None:
        """A row for the recipe of as many steps as were done before Stop."""
        curve = self.bench.variants.curves.get(self.recipe)
        done = replace(self.recipe, heal=curve[-1].step if curve else 0)
        if self.recipe.heal and done != self.recipe and self.bench.variants.known(done):
            self.bench.record(self.bench.variant(done))


def busy(sentence: str) -> View:
    """Only the status line, and work goes on."""
    return View(status=Status(sentence, "busy"))


def tokens_of(known: Measurement | None) -> int:
    """On how many tokens a setting was compared."""
    return known.quality.tokens if known and known.quality else 0
