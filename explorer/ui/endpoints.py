"""The page as an API: what it does, by name, with typed arguments and JSON answers. Gradio documents these in its API
view and offers the same to assistants (MCP). Work ends at its next step once nobody listens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import gradio as gr

from explorer.ui.asks import Ask, Controls, ask_from
from explorer.ui.desk import Desk
from explorer.ui.stage import session_of
from explorer.values.measurement import Measurement
from explorer.values.prompt import Prompt
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

MOST_SETTINGS, MOST_TOKENS, MOST_ROUNDS = 16, 20_000, 20
Json = dict[str, Any]
W = TypeVar("W", bound=Callable[..., Iterator[Json]])


def place(desk: Desk) -> None:
    """The endpoints, on the page that is being put together; those that need the model wait in its queue."""
    found = Endpoints(desk)
    gr.api(found.predict_size, api_name="predict_size", queue=False)
    for work in (found.apply, found.measure, found.generate, found.compare):
        gr.api(work, api_name=work.__name__, concurrency_id="model", concurrency_limit=1)


def _answers(work: W) -> W:
    """Gradio reads the type of an answer off the function: of a stream, that of what it tells."""
    work.__annotations__["return"] = Json
    return work


class Endpoints:
    """Of one desk. A setting is four numbers, and in `more` any other field of a recipe; what is wrong with it is told
    in one sentence."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @property
    def bench(self) -> Workbench:
        """That of the model which is open now."""
        return self.desk.bench

    def predict_size(
        self,
        sparsity: float = 0.0,
        bits: int = 16,
        keep: float = 1.0,
        head_bits: int = 16,
        more: Json | None = None,
    ) -> Json:
        """What a setting's file will weigh and what a token will cost, calculated in milliseconds; no weights change.

        Parameters:
            sparsity: share of weights that become zero, 0 to 0.95
            bits: bits of a weight, 16 for as it is, else 8 to 2
            keep: share of parameters kept in two thin factors, 1 for no factorization
            head_bits: bits of the embedding and the head
            more: any other field of a recipe, such as {"prune": "wanda", "quant": "rtn", "depth": 0.2}
        Returns:
            recipe, model, size in bytes and cost in FLOP a token
        """
        with told():
            self._ready()
            recipe = recipe_of(sparsity, bits, keep, head_bits, more)
            return record(self._calculated(recipe))

    @_answers
    def apply(
        self,
        request: gr.Request,
        sparsity: float = 0.0,
        bits: int = 16,
        keep: float = 1.0,
        head_bits: int = 16,
        more: Json | None = None,
    ) -> Iterator[Json]:
        """Make the model of a setting: real weights, counted bytes.

        Parameters:
            sparsity: share of weights that become zero, 0 to 0.95
            bits: bits of a weight, 16 for as it is, else 8 to 2
            keep: share of parameters kept in two thin factors, 1 for no factorization
            head_bits: bits of the embedding and the head
            more: any other field of a recipe, such as {"prune": "wanda", "quant": "rtn", "depth": 0.2}
        Returns:
            recipe, model, size in bytes, cost in FLOP a token, and seconds it took
        """
        with told():
            recipe = recipe_of(sparsity, bits, keep, head_bits, more)
            yield from self._while_wanted(request, recipe, self._applied(recipe))

    @_answers
    def measure(
        self,
        request: gr.Request,
        sparsity: float = 0.0,
        bits: int = 16,
        keep: float = 1.0,
        head_bits: int = 16,
        more: Json | None = None,
        tokens: int = 1024,
        rounds: int = 3,
    ) -> Iterator[Json]:
        """Everything about a setting beside the original: size, time, distance, easy questions. The record of the
        command line's `measure --json`.

        Parameters:
            sparsity: share of weights that become zero, 0 to 0.95
            bits: bits of a weight, 16 for as it is, else 8 to 2
            keep: share of parameters kept in two thin factors, 1 for no factorization
            head_bits: bits of the embedding and the head
            more: any other field of a recipe, such as {"prune": "wanda", "quant": "rtn", "depth": 0.2}
            tokens: tokens of the test text on which both are compared
            rounds: how often both are timed, in turns
        Returns:
            one record; every figure in it was measured or calculated
        """
        with told():
            recipe = recipe_of(sparsity, bits, keep, head_bits, more)
            yield from self._while_wanted(request, recipe, self._measured(recipe, *_bounded(tokens, rounds)))

    @_answers
    def generate(
        self,
        request: gr.Request,
        prompt: str,
        sparsity: float = 0.0,
        bits: int = 16,
        keep: float = 1.0,
        head_bits: int = 16,
        more: Json | None = None,
        new_tokens: int = 48,
        seed: int = 0,
        temperature: float = 0.0,
        chat: bool = True,
    ) -> Iterator[Json]:
        """What the original and a setting's model write to one prompt.

        Parameters:
            prompt: what both are asked
            sparsity: share of weights that become zero, 0 to 0.95
            bits: bits of a weight, 16 for as it is, else 8 to 2
            keep: share of parameters kept in two thin factors, 1 for no factorization
            head_bits: bits of the embedding and the head
            more: any other field of a recipe, such as {"prune": "wanda", "quant": "rtn", "depth": 0.2}
            new_tokens: tokens that each writes at most, 1 to 400
            seed: of the draws, the same for both
            temperature: 0 for the likeliest token each time
            chat: whether the prompt goes through the model's chat template
        Returns:
            recipe, and the texts of `original` and `compressed`
        """
        with told():
            recipe = recipe_of(sparsity, bits, keep, head_bits, more)
            values = Controls(prompt=prompt, length=new_tokens, seed=seed, temperature=temperature, chat=chat)
            asked = ask_from(values).prompt
            yield from self._while_wanted(request, recipe, self._written(recipe, asked))

    @_answers
    def compare(self, request: gr.Request, settings: list[Json], tokens: int = 1024, rounds: int = 1) -> Iterator[Json]:
        """The original and several settings on the same tokens, one record each.

        Parameters:
            settings: recipes by their fields, such as [{"bits": 8}, {"bits": 4, "head_bits": 8}, {"sparsity": 0.5}]
            tokens: tokens of the test text on which all are compared
            rounds: how often each is timed, in turns with the original
        Returns:
            rows, the original's first
        """
        with told():
            if not isinstance(settings, list) or not 1 <= len(settings) <= MOST_SETTINGS:
                raise ValueError(f"Give a list of 1 to {MOST_SETTINGS} settings.")
            recipes = [recipe_of(more=each) for each in settings]
            count, times = _bounded(tokens, rounds)

            def work() -> Iterator[Json]:
                rows: list[Json] = []
                for recipe in dict.fromkeys([Recipe(), *recipes]):
                    row: Json = {}
                    for row in self._measured(recipe, count, times):
                        yield {"rows": [*rows, row]}
                    rows.append(row)

            yield from self._while_wanted(request, recipes[0], work())

    def _while_wanted(self, request: gr.Request, recipe: Recipe, work: Iterator[Json]) -> Iterator[Json]:
        """What the work tells, until its listener leaves, asks for something else, or says stop."""
        self._ready()
        session, visits = session_of(request), self.desk.visits
        ask = visits.want(session, Ask(recipe=recipe, prompt=Prompt(text="")))
        assert ask
        gone = visits.gone(session, ask)
        with self.bench.visit():
            for found in work:
                if gone():
                    return
                yield found

    def _applied(self, recipe: Recipe) -> Iterator[Json]:
        calculated = record(self._calculated(recipe))
        if not recipe.data_free:
            for _ in self.bench.prepare():
                yield calculated
        for _ in self.bench.apply(recipe):
            yield calculated
        yield record(self.bench.record(self.bench.variant(recipe)))

    def _measured(self, recipe: Recipe, tokens: int, rounds: int) -> Iterator[Json]:
        yield from self._applied(recipe)
        for known in self.bench.measuring(recipe, tokens, rounds):
            yield record(known)

    def _written(self, recipe: Recipe, prompt: Prompt) -> Iterator[Json]:
        texts = {"original": "", "compressed": ""}
        for _ in self._applied(recipe):
            yield {"recipe": recipe.to_dict()} | texts
        for name, side in (("original", None), ("compressed", recipe if recipe != Recipe() else None)):
            for piece in self.bench.write(side, prompt):
                texts[name] = piece.text
                yield {"recipe": recipe.to_dict()} | texts

    def _calculated(self, recipe: Recipe) -> Measurement:
        size, cost = self.bench.preview(recipe), self.bench.cost(recipe)
        return Measurement(recipe=recipe, model=self.bench.name, size=size, cost=cost)

    def _ready(self) -> None:
        if not self.bench.ready.is_set():
            raise ValueError(self.bench.problem or "The model is still being opened; ask again in a moment.")


@contextmanager
def told() -> Iterator[None]:
    """Within it a problem becomes gradio's one sentence for who asked."""
    try:
        yield
    except (ValueError, MemoryError) as problem:
        raise gr.Error(str(problem), print_exception=False) from problem


def record(known: Measurement) -> Json:
    """What is known, without what is not."""
    return {name: value for name, value in known.to_dict().items() if value not in (None, {})}


def recipe_of(
    sparsity: float = 0.0, bits: int = 16, keep: float = 1.0, head_bits: int = 16, more: Json | None = None
) -> Recipe:
    """The setting that an endpoint was asked for. ValueError in one sentence."""
    if not isinstance(more, dict | None):
        raise ValueError('A setting is an object of a recipe\'s fields, such as {"bits": 4}.')
    given = {"sparsity": sparsity, "bits": bits, "keep": keep, "head_bits": head_bits}
    return Recipe.from_dict(given | (more or {}))


def _bounded(tokens: Any, rounds: Any) -> tuple[int, int]:
    for value, most in ((tokens, MOST_TOKENS), (rounds, MOST_ROUNDS)):
        if not isinstance(value, int) or not 1 <= value <= most:
            raise ValueError(f"tokens must be 1 to {MOST_TOKENS:,}, rounds 1 to {MOST_ROUNDS}.")
    return tokens, rounds
