"""One base model, its facts, the variants made from it, and what was measured. Knows no page and no current setting:
every call carries its own recipe, so that tabs, visitors and reloads cannot disturb each other.

Opening, applying and writing are here; what is measured of a setting is in `measuring`, what was found in `history`.
"""

import gc
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from explorer import assets
from explorer.files import cache_folder
from explorer.layers.targets import targets, untouched
from explorer.measure import cost, machine, quality, questions, size
from explorer.measure.evaluator import Evaluator
from explorer.measure.questions import Examiner
from explorer.model import exporting, library, opening, places, teach
from explorer.model.disk import sweep
from explorer.model.facts import Facts, fingerprint, release
from explorer.model.forward import cache_word
from explorer.model.places import DEFAULT, Place
from explorer.model.plan import NOTHING
from explorer.model.preflight import ModelRejected
from explorer.model.shelf import ROOM
from explorer.model.writing import context_length, prompt_ids, stream
from explorer.values.footprint import Cost, Footprint
from explorer.values.measurement import Measurement
from explorer.values.progress import told
from explorer.values.prompt import Prompt
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.values.written import STOPPED, Piece
from explorer.workbench.curves import Curves
from explorer.workbench.engine import Engine
from explorer.workbench.history import History
from explorer.workbench.measuring import Measuring
from explorer.workbench.preparing import SMALL, Preparation, weights_of
from explorer.workbench.variants import Variant, Variants

FIRST_TOKENS, LIVE_TOKENS = 200, 1000
LARGE = 600_000_000  # bytes of weights from which fewer facts stay mapped
COST_CONTEXT = 128


class Workbench(Measuring):
    """Open with `load`; then ask for sizes, variants, texts and measurements of any recipe, from any thread."""

    def __init__(
        self,
        name: str = DEFAULT,
        device: str = "cpu",
        texts: dict[str, list[str]] | None = None,
        place: Place | None = None,
        engine: Engine | None = None,
        given: tuple[Any, Any] | None = None,
    ) -> None:
        """`place`: where the model of this name was found already; `engine`: that of a workbench which is there, since
        a process has one thread for torch (transformers changes torch's defaults while it opens a model); `given`: a
        model and its tokenizer that are there already, `name` is then what they are called."""
        self.name, self.device, self.place, self._given = name, device, place, given
        self.texts = texts or assets.texts("evaluation")
        self.text_name = sha256(json.dumps(self.texts, sort_keys=True).encode()).hexdigest()[:8]
        self.message, self.problem = "Starting.", ""
        self.ready = threading.Event()
        self.load_seconds = 0.0
        self.engine = engine or Engine()
        self._history = History(self._dropped)
        self._originals: OrderedDict[Prompt, list[Piece]] = OrderedDict()

    # opening

    def load(self, say: Callable[[str], None] = lambda _: None) -> "Workbench":
        """Open the model and take up what is kept of its facts. ModelRejected in one sentence."""
        started = time.perf_counter()

        def tell(message: str) -> None:
            self.message = message
            say(message)

        try:
            self.engine.step(lambda: self._open(tell))
        except ModelRejected as rejected:
            self.problem = str(rejected)
            raise
        gc.collect()
        gc.freeze()  # the model stays: later collections need not walk it
        self.load_seconds = time.perf_counter() - started
        if not self._given:
            library.remember(self.name)
        tell(f"Opened {self.name} from {self.loaded.source}.")
        self.ready.set()
        return self

    def close(self) -> None:
        """Give the model's memory back, once nobody is served any more; nothing can be asked afterwards."""
        if self.ready.is_set():
            self.preparation.close()
        self.ready.clear()
        for name in ("loaded", "passages", "evaluator", "examiner", "facts", "variants", "preparation", "curves"):
            vars(self).pop(name, None)
        self._originals.clear()
        gc.unfreeze()
        gc.collect()
        release()

    def _open(self, tell: Callable[[str], None]) -> None:
        folder = Path(self.name).expanduser() if len(self.name) < 1000 and "~" not in self.name else None
        if not self._given and folder and folder.is_dir() and exporting.is_export(folder):
            sentence = f"{folder.name} is an export of this program; `python -m explorer generate --model` opens it."
            raise ModelRejected("export", sentence)
        if self._given:
            self.loaded = opening.adopt(*self._given)
        else:
            place = self.place or told(places.locate(self.name), tell)
            self.loaded = opening.open_place(place, device=self.device, say=tell)
        if not targets(self.loaded.model):
            raise ModelRejected("no-targets", f"There is nothing to compress in {self.name}.")
        cache_word(self.loaded.model)  # tried here, where nothing else runs the model
        machine.recall(*machine.about(self.loaded.model), cache_folder() / "machine")
        longest = context_length(self.loaded.model)
        self.passages = quality.passages(self.loaded.tokenizer, self.texts, longest=min(256, longest))
        self.evaluator = Evaluator(self.loaded.model, self.passages)
        self.examiner = Examiner(self.loaded.model, self.loaded.tokenizer, questions.questions(), longest)
        name = self.fingerprint = fingerprint(self.loaded.model)
        cache, texts = cache_folder(), assets.lessons()
        sweep(cache)
        large = size.stored_bytes(self.loaded.model) > LARGE
        self.facts = Facts(cache / "facts" / name, ROOM // 2 if large else ROOM)
        school = partial(teach.lessons, self.loaded.model, self.loaded.tokenizer, texts, cache / "lessons", name)
        self.variants = Variants(self.loaded.model, self.facts, cache / "variants" / name, self.engine.step, school)
        about = (self.loaded.model, self.loaded.tokenizer, self.facts)
        self.preparation = Preparation(*about, self.engine.step, self._forget)
        self.curves = Curves(self.kl_in_passing, cache_folder() / "curves" / f"{name}.{self.text_name}.json")

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
        left, share = untouched(self.loaded.model)
        notes = [note for note in (self.loaded.note, self.preparation.note) if note]
        if left:
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            notes.append(f"Left as they are, {share:.1%} of the bytes: {', '.join(left[:3])}{more}.")
        if not cache_word(self.loaded.model):
            notes.append("This family goes on without a cache here: each further token reads the whole text again.")
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
            piece = self.engine.step(lambda: next(pieces, None))
            if piece is None:
                break
            written.append(piece)
            yield piece
        if recipe is None and written and written[-1].stopped != STOPPED:
            self._originals[prompt] = written
            if len(self._originals) > 32:
                self._originals.popitem(last=False)

    def read_original(self, tokens: int | None = None) -> Iterator[float]:
        """As `Measuring.read_original`; what was found before is told against it too, so that no two figures differ in
        the text that they are of."""
        yield from super().read_original(tokens)
        self._history.judge_anew(self.evaluator.summary)

    def noise_floor(self) -> Iterator[Reading]:
        """As `Measuring.noise_floor`; what was found before is told against it too."""
        yield from super().noise_floor()
        self._history.judge_anew(self.evaluator.summary)

    @property
    def quick(self) -> bool:
        """Whether the model is small enough to be asked more than anybody asked for."""
        return weights_of(self.loaded.model) <= SMALL

    @property
    def judged_tokens(self) -> tuple[int, int]:
        """Tokens that the page judges a setting on, at first and in the end: fewer of a large model, since who looks
        waits; passages are whole."""
        share = min(1.0, SMALL / max(weights_of(self.loaded.model), 1))
        return max(60, int(FIRST_TOKENS * share)), max(200, int(LIVE_TOKENS * share))

    def work_ahead(self) -> None:
        """On a thread that gives way to visitors: the text that perplexities are of, the facts, the curves."""
        reading = partial(self.read_original, self.judged_tokens[1])
        self.preparation.in_background(reading, self.prepare, self.measure_curves)

    def measure_curves(self) -> Iterator[float]:
        """The curves that predictions come from, once the facts are known; yields the share done."""
        if self.prepared == 1.0:
            yield from self.curves.steps()

    # what was found out

    def measured(self, recipe: Recipe) -> Measurement | None:
        """What is known of a recipe from before."""
        return self._history.get(recipe)

    def history(self) -> list[Measurement]:
        """Every setting tried since this program started."""
        return self._history.rows()

    def record(self, variant: Variant, **found: Any) -> Measurement:
        """Keep what was found out about a variant; fields add up over calls."""
        before = self.measured(variant.recipe) or Measurement(
            recipe=variant.recipe, model=self.name, size=variant.size, cost=self.cost(variant.recipe)
        )
        seconds = {**self.seconds, "apply": variant.seconds, **before.seconds, **found.pop("seconds", {})}
        after = self._history.add(before, size=variant.size, seconds=seconds, **found)
        if after.quality:
            self.curves.learn(variant.recipe, after.quality.kl)
        return after

    def measure(self, recipe: Recipe, tokens: int = 2048, rounds: int = 5, **long: Any) -> Measurement:
        """Everything about one recipe, in one go (for the command line); `long` as for `time`."""
        *_, found = self.measuring(recipe, tokens, rounds, **long)
        return found

    def measuring(self, recipe: Recipe, tokens: int, rounds: int, **long: Any) -> Iterator[Measurement]:
        """The same step by step, so that a caller may stop; yields what is known so far."""
        variant = self.variant(recipe)
        started = time.perf_counter()
        yield self.record(variant)
        found: dict[str, Any] = {}
        for _ in self.noise_floor():
            yield self.record(variant)
        for found["quality"] in self.evaluate(recipe, tokens):
            yield self.record(variant, **found)
        for found["questions"] in self.questions(recipe):
            yield self.record(variant, **found)
        for _, found["speed"] in self.time(recipe, rounds, **long):
            yield self.record(variant, **found)
        yield self.record(variant, seconds={"measure": time.perf_counter() - started})

    def export(self, recipe: Recipe, folder: Path) -> int:
        """Write a recipe's model to a new folder; the bytes of its tensors."""
        known = self.measured(recipe) or self.record(self.variant(recipe))
        built = self.variants.unsettled(recipe)
        about = (recipe, built.allotted, self.name)
        written = exporting.write(built.model, about, self.loaded.tokenizer, known.to_dict(), folder)
        library.remember(str(folder), "export")
        return written

    def _dropped(self, recipe: Recipe) -> None:
        """What was found of a setting that the history lets go."""
        self.evaluator.forget(recipe)
        self.examiner.forget(recipe)

    def _forget(self) -> None:
        """What was made with facts that are better now."""
        self.variants.forget()
        for recipe in [*self._history.recipes(), *self.evaluator.keys(), *self.examiner.keys()]:
            if isinstance(recipe, Recipe) and not recipe.data_free:
                self._history.drop(recipe)
