"""What a button asks for and takes longer: layers, the numbers in full, speed, the text word by word. Each is a series
of (tables so far, status line); Stop and a new setting end it (`Desk.in_full`)."""

from collections.abc import Iterator

from explorer import session as tried
from explorer.profiling import profile
from explorer.recipe import Recipe
from explorer.records import LayerReading
from explorer.techniques import apart
from explorer.tracing import inside, names, trace
from explorer.ui import in_full, timings, views, word_by_word
from explorer.ui.asks import Ask, Controls
from explorer.ui.handlers import Desk, Found
from explorer.ui.inside_page import pictures
from explorer.ui.strip import strips
from explorer.ui.views import say

ALL_TOKENS = 4096
APART_TOKENS = 1024  # on which each technique is judged by itself


class Studies:
    """The studies of one desk."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.bench = desk, desk.bench

    def layers(self, values: Controls, session: str) -> Iterator[Found]:
        """The layer table, layer by layer."""
        yield from self.desk.in_full(values, session, self._layers)

    def numbers(self, values: Controls, session: str) -> Iterator[Found]:
        """Statistics, slices, parts and techniques of a setting, passage by passage."""
        yield from self.desk.in_full(values, session, self._numbers)

    def speed(self, values: Controls, session: str) -> Iterator[Found]:
        """Times, limits, parts, surface and kernels of a setting, as they come."""
        yield from self.desk.in_full(values, session, self._speed)

    def words(self, values: Controls, session: str) -> Iterator[Found]:
        """The original's text as the compressed model reads it, word by word, and the original once more."""
        yield from self.desk.in_full(values, session, self._words)

    def session(self) -> str:
        """Every setting tried since the start, and the files to keep it in."""
        if not self.bench.ready.is_set():
            return ""
        return views.session(self.bench.history(), tried.as_csv(self.bench), tried.as_json(self.bench))

    def inside(self, values: Controls, session: str, name: str) -> Iterator[Found]:
        """One matrix before and after."""
        yield from self.desk.in_full(values, session, lambda ask: self._inside(ask, name))

    def matrices(self) -> list[str]:
        """Names that `inside` takes; none before the model is there."""
        return names(self.bench) if self.bench.ready.is_set() else []

    def _inside(self, ask: Ask, name: str) -> Iterator[Found]:
        yield from self.desk.applied(ask.recipe)
        found = inside(self.bench, ask.recipe, name)
        yield pictures(found), views.status(say("inside", matrix=name, words=ask.recipe.words()), "done")

    def _layers(self, ask: Ask) -> Iterator[Found]:
        recipe = ask.recipe
        if recipe == Recipe():
            raise ValueError("nothing is compressed yet.")
        yield from self.desk.applied(recipe)
        rows: list[LayerReading] = []
        for rows in self.bench.layers(recipe):
            yield self._layer_table(recipe, rows), views.status(say("layers", done=len(rows)), "busy")
        yield self._layer_table(recipe, rows), views.status(say("layers", done=len(rows)), "done")

    def _layer_table(self, recipe: Recipe, rows: list[LayerReading]) -> str:
        known = self.bench.measured(recipe)
        return strips(rows) + in_full.layer_table(rows, known.quality.kl if known and known.quality else None)

    def _numbers(self, ask: Ask) -> Iterator[Found]:
        recipe = ask.recipe
        yield from self.desk.applied(recipe)
        yield None, views.status(say("floor"), "busy")
        for _ in self.bench.noise_floor():
            yield None, views.status(say("floor"), "busy")
        for share in self.bench.read_original():
            yield None, views.status(say("reading", share=f"{share * 100:.0f}"), "busy")
        tables = ""
        for quality in self.bench.judge(recipe, ALL_TOKENS):
            tables = in_full.statistics(quality) + in_full.slices(quality.by_kind)
            yield tables, views.status(say("judging", tokens=quality.tokens), "busy")
        yield tables, views.status(say("zipping"), "busy")
        tables += in_full.parts(self.bench.breakdown(recipe)) + in_full.beside(self.bench.beside(recipe))
        if apart(recipe):
            for found in self.bench.contributions(recipe, APART_TOKENS):
                if isinstance(found, float):
                    yield tables, views.status(say("apart", share=f"{found * 100:.0f}"), "busy")
                else:
                    tables += in_full.contributions(found)
        yield tables, views.status(say("numbers", words=recipe.words()), "done")

    def _speed(self, ask: Ask) -> Iterator[Found]:
        recipe = ask.recipe
        yield from self.desk.applied(recipe)
        tables = ""
        for found in profile(self.bench, recipe):
            tables, rows = timings.tables(found), len(found.machine.products) if found.machine else 0
            sentence = say("speed", words=recipe.words(), rows=rows, cells=len(found.surface))
            yield tables, views.status(sentence, "busy")
        yield tables, views.status(say("speed_done", words=recipe.words()), "done")

    def _words(self, ask: Ask) -> Iterator[Found]:
        yield from self.desk.applied(ask.recipe)
        for found in trace(self.bench, ask.recipe, ask.prompt):
            if isinstance(found, int):
                yield None, views.status(say("writing", tokens=found), "busy")
            else:
                yield word_by_word.tables(found), views.status(say("words", words=ask.recipe.words()), "done")
