"""What is measured of a setting: quality, speed, single layers, where the bytes are; step by step, and may be
stopped."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from explorer.layers.linear import dtype_of
from explorer.layers.targets import targets
from explorer.measure import layers, quality, size, speed
from explorer.measure.evaluator import Evaluator
from explorer.measure.quality import Passage
from explorer.measure.questions import Examiner
from explorer.model.facts import Facts
from explorer.model.interrupt import Interrupted, interruptible
from explorer.model.opening import Loaded
from explorer.model.writing import context_length
from explorer.values.footprint import Breakdown
from explorer.values.matrices import LayerReading
from explorer.values.performance import Speed
from explorer.values.quality import Contributions, Quality
from explorer.values.questions import Questions
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.workbench.engine import Engine
from explorer.workbench.techniques import apart
from explorer.workbench.variants import Variants

CURVE_TOKENS = 512
R = TypeVar("R")


class Measuring:
    """One original on its passages, and the variants that are compared with it."""

    engine: Engine
    loaded: Loaded
    facts: Facts
    variants: Variants
    evaluator: Evaluator
    examiner: Examiner
    passages: list[Passage]

    def evaluate(self, recipe: Recipe, tokens: int, stopped: Callable[[], bool] = lambda: False) -> Iterator[Quality]:
        """Quality on at least `tokens` predicted tokens (or all there are), refined passage by passage.

        Goes on where an earlier call for the same recipe stopped; `stopped` ends it within a passage.
        """
        yield from self._refined(recipe, stopped, lambda model: self.evaluator.evaluate(recipe, model, tokens))

    def questions(
        self, recipe: Recipe, count: int | None = None, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[Questions]:
        """Which of the first `count` easy questions (or of all) original and recipe get right, refined some dozens at a
        time. Goes on where an earlier call for the same recipe stopped; `stopped` ends it within a block."""
        yield from self._refined(recipe, stopped, lambda model: self.examiner.ask(recipe, model, count))

    def _refined(
        self, recipe: Recipe, stopped: Callable[[], bool], more: Callable[[nn.Module], tuple[R, bool]]
    ) -> Iterator[R]:
        """What `more` finds of the recipe's model, step by step until it says that this is enough."""
        model, enough = self.variants.get(recipe).model, False

        def step() -> tuple[R, bool]:
            with interruptible(stopped, self.loaded.model, model):
                return more(model)

        while not enough:
            try:
                found, enough = self.engine.step(step)
            except Interrupted:
                return
            yield found

    def kl_in_passing(self, recipe: Recipe) -> Iterator[Reading]:
        """KL on `CURVE_TOKENS` tokens of a model that nobody asked for, so that it pushes none out of memory."""
        built = self.variants.transient(recipe)
        while True:
            found, enough = self.engine.step(lambda: self.evaluator.evaluate(recipe, built, CURVE_TOKENS))
            yield found.kl
            if enough:
                return

    def contributions(self, recipe: Recipe, tokens: int) -> Iterator[float | Contributions]:
        """What each technique of a combined setting does by itself; yields shares done, and what was found at the end.
        ValueError where there are fewer than two techniques."""
        alone = apart(recipe)
        if not alone:
            raise ValueError("This setting uses fewer than two techniques, so there is nothing to take apart.")
        for done, one in enumerate([*alone.values(), recipe]):
            for share in self.variants.apply(one):
                yield (done + share / 2) / (len(alone) + 1)
            for judged in self.evaluate(one, tokens):
                yield (done + 0.5 + min(judged.tokens / tokens, 1) / 2) / (len(alone) + 1)
        scores = {name: self.evaluator.scores(one) for name, one in alone.items()}
        yield quality.contributions(scores, self.evaluator.scores(recipe))

    def read_original(self, tokens: int | None = None) -> Iterator[float]:
        """The original on the first `tokens` tokens, or on all texts: all perplexities are then those of that text;
        yields the share done."""
        yield from self.engine.steps(self.evaluator.read(tokens))

    def noise_floor(self) -> Iterator[Reading]:
        """What rounding noise alone does to the original, found once; qualities judged afterwards carry it."""
        yield from self.engine.steps(self.evaluator.find_floor())

    def time(
        self,
        recipe: Recipe,
        rounds: int = 5,
        decode_steps: int = 8,
        *,
        prompt_tokens: int = speed.PROMPT_TOKENS,
        batch: int = 1,
        **how: Any,
    ) -> Iterator[tuple[Speed, Speed]]:
        """(original, compressed) timed in turns; refined round by round. `how`: see `speed.time_in_turns`."""
        variant = self.variants.get(recipe)
        base, other = speed.Stopwatch(self.loaded.model, "dense"), speed.Stopwatch(variant.model, variant.kernel)
        how |= {"rounds": rounds, "decode_steps": decode_steps, "prompt_tokens": prompt_tokens, "batch": batch}
        for _ in self.engine.steps(speed.time_in_turns((base, other), **how)):
            yield base.speed(), other.speed(base)

    def layers(self, recipe: Recipe, tokens: int = 128) -> Iterator[list[LayerReading]]:
        """Each compressed matrix by itself, one more with every yield; takes a pass over `tokens` tokens each."""
        if recipe.structural or recipe.rotate:
            raise ValueError("Layers can be compared while nothing is taken out or rotated.")
        built = self.variants.unsettled(recipe)
        found = targets(self.loaded.model)
        grams = {target.name: self.facts.gram(target.name) for target in found}
        ids = self.passages[0].ids[:, :tokens]
        yield from self.engine.steps(layers.measure(self.loaded.model, built.model, found, grams, ids))

    def breakdown(self, recipe: Recipe) -> Breakdown:
        """Where the bytes of a recipe's file are, and what zip makes of it. Takes some passes over all weights."""
        built = self.variants.unsettled(recipe)
        found = self.engine.step(lambda: size.breakdown(built.model, self.variants.predictor(recipe).targets))
        return replace(found, zip_bytes=self.engine.step(lambda: size.zip_bytes(built.model)))

    def beside(self, recipe: Recipe) -> dict[int, tuple[Reading, Reading]]:
        """What one text of so many tokens takes beside the weights: (KV cache, activations)."""
        model = self.variants.get(recipe).model
        return size.beside(model.config, context_length(model), dtype_of(model).itemsize)
