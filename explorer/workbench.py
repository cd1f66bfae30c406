"""One base model, its facts, the variants made from it, and what was measured. Knows no page and no current setting:
every call carries its own recipe, so that tabs, visitors and reloads cannot disturb each other.

Steps on the model run one at a time on a thread of their own; nothing is held across a yield.
"""

import gc
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from explorer import assets
from explorer.layers.targets import targets, untouched
from explorer.measure import cost, layers, quality, size, speed
from explorer.measure.judge import Judge
from explorer.model import export, hub
from explorer.model.calibrate import windows_of
from explorer.model.facts import Facts, bytes_needed, fingerprint
from explorer.model.generate import context_length, encode_prompt, stream
from explorer.model.plan import NOTHING
from explorer.model.preflight import ModelRejected, free_bytes
from explorer.recipe import Recipe
from explorer.records import (
    STOPPED,
    Breakdown,
    Cost,
    Footprint,
    LayerReading,
    Measurement,
    Piece,
    Quality,
    Reading,
    Speed,
)
from explorer.variants import Variant, Variants

R = TypeVar("R")
COST_CONTEXT = 128


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What to write, and how."""

    text: str
    new_tokens: int = 48
    seed: int = 0
    temperature: float = 0.0
    chat: bool = True


class Workbench:
    """Open with `load`; then ask for sizes, variants, texts and measurements of any recipe, from any thread."""

    def __init__(self, name: str = hub.DEFAULT, device: str = "cpu", texts: dict[str, list[str]] | None = None) -> None:
        self.name, self.device = name, device
        self.texts = texts or assets.texts("evaluation")
        self.message, self.problem = "Starting.", ""
        self.ready = threading.Event()
        self.prepared = 0.0
        self.seconds: dict[str, float] = {"load": 0.0, "prepare": 0.0}
        self._engine = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._owner = self._engine.submit(threading.current_thread).result()
        self._visitors = self._waiting = 0
        self._preparing = threading.Lock()
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
        self.seconds["load"] = time.perf_counter() - started
        tell(f"Opened {self.name} from {self.loaded.source}.")
        self.ready.set()
        return self

    def _open(self, tell: Callable[[str], None]) -> None:
        folder = Path(self.name).expanduser() if len(self.name) < 1000 and "~" not in self.name else None
        if folder and folder.is_dir() and export.is_export(folder):
            sentence = f"{folder.name} is an export of this program; `python -m explorer generate --model` opens it."
            raise ModelRejected("export", sentence)
        self.loaded = hub.load(self.name, device=self.device, say=tell)
        if not targets(self.loaded.model):
            raise ModelRejected("no-targets", f"There is nothing to compress in {self.name}.")
        self.passages = quality.passages(
            self.loaded.tokenizer, self.texts, longest=min(256, context_length(self.loaded.model))
        )
        self.judged = Judge(self.loaded.model, self.passages)
        self.facts = Facts()
        name = fingerprint(self.loaded.model)
        self._facts_file = hub.cache_folder() / "facts" / f"{name}.safetensors"
        self.variants = Variants(self.loaded.model, self.facts, hub.cache_folder() / "variants" / name, self.step)
        self.prepared = 1.0 if self.facts.load(self._facts_file) else 0.0

    def prepare(self) -> Iterator[float]:
        """Calibrate and work out the facts in the pauses of everything else, keep them on disk; yields the share done.

        Whatever was made with fewer tokens of calibration is forgotten when more have gone through the model.
        """
        if not self._preparing.acquire(blocking=False):  # somebody is at it: wait for that
            self._waiting += 1
            try:
                while not self._preparing.acquire(timeout=0.2):
                    yield self.prepared
            finally:
                self._waiting -= 1
        try:
            if self.prepared < 1.0:
                yield from self._prepare()
        finally:
            self._preparing.release()

    def _prepare(self) -> Iterator[float]:
        started = time.perf_counter()
        if bytes_needed(self.loaded.model) > 0.4 * free_bytes():
            self.message = "Too little memory to prepare every layer: only methods that need no calibration work."
            return
        length = min(512, context_length(self.loaded.model))
        windows = windows_of(self.loaded.tokenizer, assets.texts("calibration"), length=length)
        model = self.loaded.model
        stages = (self.facts.calibrate(model, windows), self.facts.weigh_outputs(model), self.facts.prepare(model))
        for part, steps in enumerate(stages):
            level = self.facts.tokens
            while (share := self.step(lambda steps=steps: next(steps, None))) is not None:  # type: ignore[misc]
                if self.facts.tokens != level:
                    level = self.facts.tokens
                    self.step(self._forget)
                self.prepared = min((part + share) / len(stages), 0.999)
                yield self.prepared
            if part == 1:
                self.step(self._forget)
        self.step(lambda: self.facts.save(self._facts_file))
        self.prepared = 1.0
        self.seconds["prepare"] = time.perf_counter() - started

    def prepare_in_background(self) -> threading.Thread:
        """`prepare` on a thread that gives way to visitors."""

        def work() -> None:
            pause = threading.Event()
            for _ in self.prepare():
                while self._visitors and not self._waiting:
                    pause.wait(0.05)

        thread = threading.Thread(target=work, name="prepare", daemon=True)
        thread.start()
        return thread

    @contextmanager
    def visit(self) -> Iterator[None]:
        """While a visitor is served, background work pauses."""
        self._visitors += 1
        try:
            yield
        finally:
            self._visitors -= 1

    # numbers that need no weights

    def preview(self, recipe: Recipe) -> Footprint:
        """File bytes by arithmetic in a few milliseconds; exact, but for a global budget not shared out yet."""
        return self.variants.predict(recipe)

    def cost(self, recipe: Recipe) -> Cost:
        """FLOPs of one further token after `COST_CONTEXT` tokens."""
        found = self.variants.predictor(recipe).targets
        width = sum(t.shape[0] for t in found if t.kind == "attention" and _is_query(t.name))
        config: Any = self.loaded.model.config
        blocks = len({t.block for t in found if t.kind == "attention"})
        width = width or blocks * config.hidden_size
        return cost.flops_per_token(found, recipe, width, COST_CONTEXT, self.variants.allotted.get(recipe, NOTHING))

    def notes(self) -> list[str]:
        """What a reader must know about this model: its copy, and what is left alone."""
        left = untouched(self.loaded.model)
        notes = [self.loaded.note] if self.loaded.note else []
        if left:
            notes.append(f"Left as they are: {', '.join(left[:3])}{' and more' if len(left) > 3 else ''}.")
        return notes

    # weights that are really changed, and really run

    def apply(self, recipe: Recipe) -> Iterator[float]:
        """Make the model of a recipe from the original, step by step; yields the share done. A caller may stop."""
        yield from self.variants.apply(recipe)

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
        limit = min(context_length(model) - 1, 2048)
        ids = encode_prompt(self.loaded.tokenizer, prompt.text, chat=prompt.chat, limit=limit)
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

    def judge(self, recipe: Recipe, tokens: int) -> Iterator[Quality]:
        """Quality on at least `tokens` predicted tokens (or all there are), refined passage by passage.

        Goes on where an earlier call for the same recipe stopped.
        """
        variant = self.variant(recipe)
        while True:
            found, enough = self.step(lambda: self.judged.judge(recipe, variant.model, tokens))
            yield found
            if enough:
                return

    def noise_floor(self) -> Iterator[Reading]:
        """What rounding noise alone does to the original, found once; qualities judged afterwards carry it."""
        steps = self.judged.find_floor()
        while (found := self.step(lambda: next(steps, None))) is not None:
            yield found

    def time(self, recipe: Recipe, rounds: int = 5, decode_steps: int = 8) -> Iterator[tuple[Speed, Speed]]:
        """(original, compressed) timed in turns; refined round by round."""
        variant = self.variant(recipe)
        watches = (
            speed.Stopwatch(self.loaded.model, "dense"),
            speed.Stopwatch(variant.model, variant.kernel),
        )
        steps = speed.time_in_turns(watches, rounds=rounds, decode_steps=decode_steps)
        while True:
            if self.step(lambda: next(steps, None)) is None:
                return
            yield watches[0].speed(), watches[1].speed()

    def layers(self, recipe: Recipe, tokens: int = 128) -> Iterator[list[LayerReading]]:
        """Each compressed matrix by itself, one more with every yield; takes a pass over `tokens` tokens each."""
        if recipe.structural:
            raise ValueError("Layers can be compared while no block, channel or head is taken out.")
        built = self.variants.unsettled(recipe)
        found = targets(self.loaded.model)
        grams = {target.name: self.facts.gram(target.name) for target in found}
        ids = self.passages[0].ids[:, :tokens]
        steps = layers.measure(self.loaded.model, built.model, found, grams, ids)
        while (rows := self.step(lambda: next(steps, None))) is not None:
            yield rows

    def breakdown(self, recipe: Recipe) -> Breakdown:
        """Where the bytes of a recipe's file are. Takes a pass over all weights."""
        built = self.variants.unsettled(recipe)
        return self.step(lambda: size.breakdown(built.model, self.variants.predictor(recipe).targets))

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
        while len(self._measured) > 256:
            oldest = next(iter(self._measured))
            self._measured.pop(oldest)
            self.judged.forget(oldest)
        return after

    def measure(self, recipe: Recipe, tokens: int = 2048, rounds: int = 5) -> Measurement:
        """Everything about one recipe, in one go (for the command line)."""
        variant = self.variant(recipe)
        started = time.perf_counter()
        found: dict[str, Any] = {}
        for _ in self.noise_floor():
            pass
        for judged in self.judge(recipe, tokens):
            found["quality"] = judged
        for _, timed in self.time(recipe, rounds=rounds):
            found["speed"] = timed
        return self.record(variant, **found, seconds={"measure": time.perf_counter() - started})

    def export(self, recipe: Recipe, folder: Path) -> int:
        """Write a recipe's model to a new folder; the bytes of its tensors."""
        known = self.measured(recipe) or self.record(self.variant(recipe))
        built = self.variants.unsettled(recipe)
        about = (recipe, built.allotted, self.name)
        return export.write(built.model, about, self.loaded.tokenizer, known.to_dict(), folder)

    def _forget(self) -> None:
        """What was made with facts that are better now."""
        self.variants.forget()
        for recipe in [recipe for recipe in self._measured if not recipe.data_free]:
            self._measured.pop(recipe)
            self.judged.forget(recipe)

    def step(self, work: Callable[[], R]) -> R:
        """One step on the model, on the one thread that owns torch, opening included: a second one would bring its own
        team, and OpenMP lets workers that outnumber the cores sleep between products (13 against 6 ms a token)."""
        if threading.current_thread() is self._owner:
            return work()
        return self._engine.submit(work).result()


def _is_query(name: str) -> bool:
    return name.endswith(("q_proj", "query"))
