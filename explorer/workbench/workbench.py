"""One base model, its facts, the variants made from it, and what was measured. Knows no page and no current setting:
every call carries its own recipe, so that tabs, visitors and reloads cannot disturb each other.

Steps on the model run one at a time on a thread of their own; nothing is held across a yield.
"""

import gc
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from explorer import assets
from explorer.files import cache_folder
from explorer.layers.targets import targets, untouched
from explorer.measure import cost, layers, machine, quality, size, speed
from explorer.measure.evaluator import Evaluator
from explorer.model import exporting, opening, teach
from explorer.model.facts import Facts, fingerprint
from explorer.model.interrupt import Interrupted, interruptible
from explorer.model.places import DEFAULT
from explorer.model.plan import NOTHING
from explorer.model.preflight import ModelRejected
from explorer.model.writing import context_length, prompt_ids, stream
from explorer.values.prompt import Prompt
from explorer.values.recipe import Recipe
from explorer.values.records import (
    STOPPED,
    Breakdown,
    Contributions,
    Cost,
    Footprint,
    LayerReading,
    Measurement,
    Piece,
    Quality,
    Reading,
    Speed,
)
from explorer.workbench.curves import Curves
from explorer.workbench.preparing import Preparation
from explorer.workbench.techniques import apart
from explorer.workbench.variants import Variant, Variants

R = TypeVar("R")
COST_CONTEXT = 128
CURVE_TOKENS = 512


class Workbench:
    """Open with `load`; then ask for sizes, variants, texts and measurements of any recipe, from any thread."""

    def __init__(self, name: str = DEFAULT, device: str = "cpu", texts: dict[str, list[str]] | None = None) -> None:
        self.name, self.device = name, device
        self.texts = texts or assets.texts("evaluation")
        self.text_name = sha256(json.dumps(self.texts, sort_keys=True).encode()).hexdigest()[:8]
        self.message, self.problem = "Starting.", ""
        self.ready = threading.Event()
        self.load_seconds = 0.0
        self._engine = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._owner = self._engine.submit(threading.current_thread).result()
        self._measured: dict[Recipe, Measurement] = {}
        self._originals: OrderedDict[Prompt, list[Piece]] = OrderedDict()

    # opening

    def load(self, say: Callable[[str], None] = lambda _: None) -> "Workbench":
        """Open the model and take up what is kept of its facts. ModelRejected in one sentence."""
        started = time.perf_counter()

        def tell(message: str) -> None:
            self.message = message
            say(message)

        try:
            self.step(lambda: self._open(tell))
        except ModelRejected as rejected:
            self.problem = str(rejected)
            raise
        gc.collect()
        gc.freeze()  # the model stays: later collections need not walk it
        self.load_seconds = time.perf_counter() - started
        tell(f"Opened {self.name} from {self.loaded.source}.")
        self.ready.set()
        return self

    def _open(self, tell: Callable[[str], None]) -> None:
        folder = Path(self.name).expanduser() if len(self.name) < 1000 and "~" not in self.name else None
        if folder and folder.is_dir() and exporting.is_export(folder):
            sentence = f"{folder.name} is an export of this program; `python -m explorer generate --model` opens it."
            raise ModelRejected("export", sentence)
        self.loaded = opening.load(self.name, device=self.device, say=tell)
        if not targets(self.loaded.model):
            raise ModelRejected("no-targets", f"There is nothing to compress in {self.name}.")
        machine.recall(*machine.about(self.loaded.model), cache_folder() / "machine")
        self.passages = quality.passages(
            self.loaded.tokenizer, self.texts, longest=min(256, context_length(self.loaded.model))
        )
        self.evaluator = Evaluator(self.loaded.model, self.passages)
        self.facts = Facts()
        name = self.fingerprint = fingerprint(self.loaded.model)
        cache, texts = cache_folder(), assets.lessons()
        school = partial(teach.lessons, self.loaded.model, self.loaded.tokenizer, texts, cache / "lessons", name)
        self.variants = Variants(self.loaded.model, self.facts, cache / "variants" / name, self.step, school)
        file = cache_folder() / "facts" / f"{name}.safetensors"
        about = (self.loaded.model, self.loaded.tokenizer, self.facts, file)
        self.preparation = Preparation(*about, self.step, self._forget)
        self.curves = Curves(self._kl_in_passing, cache_folder() / "curves" / f"{name}.{self.text_name}.json")

    def prepare(self) -> Iterator[float]:
        """Calibrate and work out the facts, or wait for who is at it; yields the share done."""
        yield from self.preparation.steps()

    @property
    def prepared(self) -> float:
        """The share of the facts that is known."""
        return self.preparation.done if self.ready.is_set() else 0.0

    @property
    def seconds(self) -> dict[str, float]:
        """How long opening and preparing took in this run."""
        return {"load": self.load_seconds, "prepare": self.preparation.seconds}

    def visit(self) -> AbstractContextManager[None]:
        """While a visitor is served, background work pauses."""
        return self.preparation.visit()

    # numbers that need no weights

    def preview(self, recipe: Recipe) -> Footprint:
        """File bytes by arithmetic in a few milliseconds; exact, but for a global budget not shared out yet."""
        return self.variants.predict(recipe)

    def cost(self, recipe: Recipe) -> Cost:
        """FLOPs of one further token after `COST_CONTEXT` tokens."""
        found = self.variants.predictor(recipe).targets
        width = cost.attention_width(found, self.loaded.model.config)
        return cost.flops_per_token(found, recipe, width, COST_CONTEXT, self.variants.allotted.get(recipe, NOTHING))

    def notes(self) -> list[str]:
        """What a reader must know about this model: its copy, and what is left alone."""
        left = untouched(self.loaded.model)
        notes = [note for note in (self.loaded.note, self.preparation.note) if note]
        if left:
            notes.append(f"Left as they are: {', '.join(left[:3])}{' and more' if len(left) > 3 else ''}.")
        return notes

    # weights that are really changed, and really run

    def apply(self, recipe: Recipe, stopped: Callable[[], bool] = lambda: False) -> Iterator[float]:
        """Make the model of a recipe, step by step; yields the share done. See `Variants.apply`."""
        yield from self.variants.apply(recipe, stopped)

    def variant(self, recipe: Recipe) -> Variant:
        """The model of a recipe; equal recipes are one variant."""
        return self.variants.get(recipe)

    def write(
        self, recipe: Recipe | None, prompt: Prompt, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[Piece]:
        """Text of a recipe's model, or of the original (None), whose text for a prompt is written once and kept."""
        if recipe is None and prompt in self._originals:
            yield from self._originals[prompt]
            return
        model = self.loaded.model if recipe is None else self.variant(recipe).model
        ids = prompt_ids(model, self.loaded.tokenizer, prompt.text, chat=prompt.chat)
        pieces = stream(
            model,
            self.loaded.tokenizer,
            ids,
            new_tokens=prompt.new_tokens,
            seed=prompt.seed,
            temperature=prompt.temperature,
            stopped=stopped,
        )
        written: list[Piece] = []
        while True:
            piece = self.step(lambda: next(pieces, None))
            if piece is None:
                break
            written.append(piece)
            yield piece
        if recipe is None and written and written[-1].stopped != STOPPED:
            self._originals[prompt] = written
            if len(self._originals) > 32:
                self._originals.popitem(last=False)

    def evaluate(self, recipe: Recipe, tokens: int, stopped: Callable[[], bool] = lambda: False) -> Iterator[Quality]:
        """Quality on at least `tokens` predicted tokens (or all there are), refined passage by passage.

        Goes on where an earlier call for the same recipe stopped; `stopped` ends it within a passage.
        """
        model = self.variant(recipe).model

        def one_more() -> tuple[Quality, bool]:
            with interruptible(stopped, self.loaded.model, model):
                return self.evaluator.evaluate(recipe, model, tokens)

        enough = False
        while not enough:
            try:
                found, enough = self.step(one_more)
            except Interrupted:
                return
            yield found

    def _kl_in_passing(self, recipe: Recipe) -> Iterator[Reading]:
        """KL on `CURVE_TOKENS` tokens of a model that nobody asked for, so that it pushes none out of memory."""
        built = self.variants.transient(recipe)
        while True:
            found, enough = self.step(lambda: self.evaluator.evaluate(recipe, built, CURVE_TOKENS))
            yield found.kl
            if enough:
                return

    def measure_curves(self) -> Iterator[float]:
        """The curves that predictions come from, once the facts are known; yields the share done."""
        if self.prepared == 1.0:
            yield from self.curves.steps()

    def contributions(self, recipe: Recipe, tokens: int) -> Iterator[float | Contributions]:
        """What each technique of a combined setting does by itself; yields shares done, and what was found at the end.
        ValueError where there are fewer than two techniques."""
        alone = apart(recipe)
        if not alone:
            raise ValueError("This setting uses fewer than two techniques, so there is nothing to take apart.")
        for done, one in enumerate([*alone.values(), recipe]):
            for share in self.apply(one):
                yield (done + share / 2) / (len(alone) + 1)
            for judged in self.evaluate(one, tokens):
                yield (done + 0.5 + min(judged.tokens / tokens, 1) / 2) / (len(alone) + 1)
        scores = {name: self.evaluator.scores(one) for name, one in alone.items()}
        yield quality.contributions(scores, self.evaluator.scores(recipe))

    def read_original(self) -> Iterator[float]:
        """The original on all texts: perplexities judged afterwards are those of the whole; yields the share done."""
        yield from self.steps(self.evaluator.read_all())

    def noise_floor(self) -> Iterator[Reading]:
        """What rounding noise alone does to the original, found once; qualities judged afterwards carry it."""
        yield from self.steps(self.evaluator.find_floor())

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
        variant = self.variant(recipe)
        base, other = speed.Stopwatch(self.loaded.model, "dense"), speed.Stopwatch(variant.model, variant.kernel)
        how |= {"rounds": rounds, "decode_steps": decode_steps, "prompt_tokens": prompt_tokens, "batch": batch}
        for _ in self.steps(speed.time_in_turns((base, other), **how)):
            yield base.speed(), other.speed(base)

    def layers(self, recipe: Recipe, tokens: int = 128) -> Iterator[list[LayerReading]]:
        """Each compressed matrix by itself, one more with every yield; takes a pass over `tokens` tokens each."""
        if recipe.structural or recipe.rotate:
            raise ValueError("Layers can be compared while nothing is taken out or rotated.")
        built = self.variants.unsettled(recipe)
        found = targets(self.loaded.model)
        grams = {target.name: self.facts.gram(target.name) for target in found}
        ids = self.passages[0].ids[:, :tokens]
        yield from self.steps(layers.measure(self.loaded.model, built.model, found, grams, ids))

    def breakdown(self, recipe: Recipe) -> Breakdown:
        """Where the bytes of a recipe's file are, and what zip makes of it. Takes some passes over all weights."""
        built = self.variants.unsettled(recipe)
        found = self.step(lambda: size.breakdown(built.model, self.variants.predictor(recipe).targets))
        return replace(found, zip_bytes=self.step(lambda: size.zip_bytes(built.model)))

    def beside(self, recipe: Recipe) -> dict[int, tuple[Reading, Reading]]:
        """What one text of so many tokens takes beside the weights: (KV cache, activations)."""
        model = self.variant(recipe).model
        return size.beside(model.config, context_length(model), next(model.parameters()).element_size())

    # what was found out

    def measured(self, recipe: Recipe) -> Measurement | None:
        """What is known of a recipe from before."""
        return self._measured.get(recipe)

    def history(self) -> list[Measurement]:
        """Every setting tried since this program started."""
        return list(self._measured.values())

    def record(self, variant: Variant, **found: Any) -> Measurement:
        """Keep what was found out about a variant; fields add up over calls."""
        before = self._measured.get(variant.recipe) or Measurement(
            recipe=variant.recipe, model=self.name, size=variant.size, cost=self.cost(variant.recipe)
        )
        seconds = {**self.seconds, "apply": variant.seconds, **before.seconds, **found.pop("seconds", {})}
        after = replace(before, size=variant.size, seconds=seconds, **found)
        self._measured[variant.recipe] = after
        if after.quality:
            self.curves.learn(variant.recipe, after.quality.kl)
        while len(self._measured) > 256:
            oldest = next(recipe for recipe in self._measured if recipe != Recipe())  # what all are compared with stays
            self.evaluator.forget(self._measured.pop(oldest).recipe)
        return after

    def measure(self, recipe: Recipe, tokens: int = 2048, rounds: int = 5, **long: Any) -> Measurement:
        """Everything about one recipe, in one go (for the command line); `long` as for `time`."""
        variant = self.variant(recipe)
        started = time.perf_counter()
        found: dict[str, Any] = {}
        for _ in self.noise_floor():
            pass
        for judged in self.evaluate(recipe, tokens):
            found["quality"] = judged
        for _, timed in self.time(recipe, rounds, **long):
            found["speed"] = timed
        return self.record(variant, **found, seconds={"measure": time.perf_counter() - started})

    def export(self, recipe: Recipe, folder: Path) -> int:
        """Write a recipe's model to a new folder; the bytes of its tensors."""
        known = self.measured(recipe) or self.record(self.variant(recipe))
        built = self.variants.unsettled(recipe)
        about = (recipe, built.allotted, self.name)
        return exporting.write(built.model, about, self.loaded.tokenizer, known.to_dict(), folder)

    def _forget(self) -> None:
        """What was made with facts that are better now."""
        self.variants.forget()
        for recipe in [*self._measured.copy(), *self.evaluator.keys()]:  # copied at once: handlers go on adding
            if isinstance(recipe, Recipe) and not recipe.data_free:
                self._measured.pop(recipe, None)
                self.evaluator.forget(recipe)

    def steps(self, work: Iterator[R]) -> Iterator[R]:
        """Each step of an iterator, one at a time as by `step`; a caller may stop in between."""
        while (found := self.step(lambda: next(work, None))) is not None:
            yield found

    def step(self, work: Callable[[], R]) -> R:
        """One step on the model, on the one thread that owns torch, opening included: a second one would bring its own
        team, and OpenMP lets workers that outnumber the cores sleep between products (13 against 6 ms a token)."""
        if threading.current_thread() is self._owner:
            return work()
        return self._engine.submit(work).result()
