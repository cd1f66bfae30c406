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

import torch
from torch import Tensor, nn

from explorer import assets
from explorer.layers.targets import siblings, targets, untouched
from explorer.measure import cost, quality, size, speed
from explorer.model import export, hub
from explorer.model.compress import compress, kernels_of, notes_of, settle
from explorer.model.facts import Facts, bytes_needed, fingerprint
from explorer.model.generate import context_length, encode_prompt, stream
from explorer.model.preflight import ModelRejected, free_bytes
from explorer.recipe import Recipe
from explorer.records import STOPPED, Cost, Footprint, Measurement, Piece, Quality, Speed

R = TypeVar("R")
VARIANTS_KEPT = 3
REFERENCE_TOKENS_KEPT = 1200  # of the original's predictions, 100 kB each for 49,152 words
COST_CONTEXT = 128


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A compressed model ready to run, and what it costs. Never changed once it is here."""

    recipe: Recipe
    model: nn.Module
    size: Footprint
    kernel: str
    seconds: float


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
        self._visitors = 0
        self._variants: OrderedDict[Recipe, Variant] = OrderedDict()
        self._measured: dict[Recipe, Measurement] = {}
        self._scores: dict[Recipe, list[quality.Score]] = {}
        self._references: dict[int, Tensor] = {}
        self._originals: OrderedDict[Prompt, list[Piece]] = OrderedDict()

    # opening

    def load(self, say: Callable[[str], None] = lambda _: None) -> "Workbench":
        """Open the model and take up what is kept of its facts. ModelRejected in one sentence."""
        started = time.perf_counter()

        def tell(message: str) -> None:
            self.message = message
            say(message)

        try:
            folder = Path(self.name).expanduser() if len(self.name) < 1000 and "~" not in self.name else None
            if folder and folder.is_dir() and export.is_export(folder):
                sentence = (
                    f"{folder.name} is an export of this program; `python -m explorer generate --model` opens it."
                )
                raise ModelRejected("export", sentence)
            self.loaded = hub.load(self.name, device=self.device, say=tell)
            self.targets = targets(self.loaded.model)
            if not self.targets:
                raise ModelRejected("no-targets", f"There is nothing to compress in {self.name}.")
            self.siblings = siblings(self.loaded.model)
            self.predictor = size.Predictor(self.loaded.model, self.targets)
            self.passages = quality.passages(
                self.loaded.tokenizer, self.texts, longest=min(256, context_length(self.loaded.model))
            )
            self.facts = Facts()
            self._facts_file = hub.cache_folder() / "facts" / f"{fingerprint(self.loaded.model)}.safetensors"
            self.prepared = 1.0 if self.facts.load(self._facts_file) else 0.0
        except ModelRejected as rejected:
            self.problem = str(rejected)
            raise
        gc.collect()
        gc.freeze()  # the model stays: later collections need not walk it
        self.seconds["load"] = time.perf_counter() - started
        tell(f"Opened {self.name} from {self.loaded.source}.")
        self.ready.set()
        return self

    def prepare(self) -> Iterator[float]:
        """Work out the facts in the pauses of everything else, and keep them on disk; yields the share done."""
        if self.prepared == 1.0:
            return
        started = time.perf_counter()
        if bytes_needed(self.loaded.model) > 0.4 * free_bytes():
            self.message = "Too little memory to prepare every layer: sparsity and factors will take longer."
            return
        steps = self.facts.prepare(self.loaded.model)
        while True:
            done = self._step(lambda: next(steps, None))
            if done is None:
                break
            self.prepared = min(done, 0.999)
            yield done
        if self.prepared < 1.0:
            self._step(lambda: self.facts.save(self._facts_file))
            self.prepared = 1.0
            self.seconds["prepare"] = time.perf_counter() - started

    def prepare_in_background(self) -> threading.Thread:
        """`prepare` on a thread that gives way to visitors."""

        def work() -> None:
            pause = threading.Event()
            for _ in self.prepare():
                while self._visitors:
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
        """Exact file bytes by arithmetic, in well under a millisecond."""
        return self.predictor.predict(recipe)

    def cost(self, recipe: Recipe) -> Cost:
        """FLOPs of one further token after `COST_CONTEXT` tokens."""
        config: Any = self.loaded.model.config
        width = sum(t.shape[0] for t in self.targets if t.kind == "attention" and _is_query(t.name))
        width = width or config.num_hidden_layers * config.hidden_size
        return cost.flops_per_token(self.targets, recipe, attention_width=width, context=COST_CONTEXT)

    def notes(self) -> list[str]:
        """What a reader must know about this model: its copy, and what is left alone."""
        left = untouched(self.loaded.model)
        notes = [self.loaded.note] if self.loaded.note else []
        if left:
            notes.append(f"Left as they are: {', '.join(left[:3])}{' and more' if len(left) > 3 else ''}.")
        return notes

    # weights that are really changed, and really run

    def variant(self, recipe: Recipe) -> Variant:
        """The model of a recipe, made from the original; equal recipes are one variant."""
        return self._step(lambda: self._variant(recipe))

    def _variant(self, recipe: Recipe) -> Variant:
        if recipe in self._variants:
            self._variants.move_to_end(recipe)
            return self._variants[recipe]
        started = time.perf_counter()
        with torch.no_grad():
            model = compress(self.loaded.model, recipe, self.facts)
            predicted = self.predictor.predict(recipe)
            stored, kept = size.stored_bytes(model), size.kept_parameters(model)
            settle(model, self.siblings)
        footprint = size.footprint(
            stored,
            kept,
            self.predictor.original,
            int(predicted.predicted_bytes.value),
            "measured",
            predicted.parts,
            size.resident_bytes(model),
            notes_of(model),
        )
        kernel = " + ".join(kernels_of(model))
        variant = Variant(
            recipe=recipe,
            model=model,
            size=footprint,
            kernel=kernel,
            seconds=time.perf_counter() - started,
        )
        self._variants[recipe] = variant
        while len(self._variants) > VARIANTS_KEPT:
            self._variants.popitem(last=False)
        return variant

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
            piece = self._step(lambda: next(pieces, None))
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
            found, enough = self._step(lambda: self._judge(variant, tokens))
            yield found
            if enough:
                return

    def time(self, recipe: Recipe, rounds: int = 5, decode_steps: int = 8) -> Iterator[tuple[Speed, Speed]]:
        """(original, compressed) timed in turns; refined round by round."""
        variant = self.variant(recipe)
        watches = (
            speed.Stopwatch(self.loaded.model, "dense"),
            speed.Stopwatch(variant.model, variant.kernel),
        )
        steps = speed.time_in_turns(watches, rounds=rounds, decode_steps=decode_steps)
        while True:
            if self._step(lambda: next(steps, None)) is None:
                return
            yield watches[0].speed(), watches[1].speed()

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
            self._scores.pop(oldest, None)
        return after

    def measure(self, recipe: Recipe, tokens: int = 2048, rounds: int = 5) -> Measurement:
        """Everything about one recipe, in one go (for the command line)."""
        variant = self.variant(recipe)
        started = time.perf_counter()
        found: dict[str, Any] = {}
        for judged in self.judge(recipe, tokens):
            found["quality"] = judged
        for _, timed in self.time(recipe, rounds=rounds):
            found["speed"] = timed
        return self.record(variant, **found, seconds={"measure": time.perf_counter() - started})

    def export(self, recipe: Recipe, folder: Path) -> int:
        """Write a recipe's model to a new folder; the bytes of its tensors."""
        model = self._step(lambda: compress(self.loaded.model, recipe, self.facts))
        known = self.measured(recipe) or self.record(self.variant(recipe))
        return export.write(model, recipe, self.loaded.tokenizer, self.name, known.to_dict(), folder)

    def _judge(self, variant: Variant, tokens: int) -> tuple[Quality, bool]:
        """One passage more, unless there are enough already: (quality so far, whether that is enough)."""
        scores = self._scores.setdefault(variant.recipe, [])

        def enough() -> bool:
            return sum(s.tokens + s.broken for s in scores) >= tokens or len(scores) == len(self.passages)

        if not scores or not enough():
            passage = self.passages[len(scores)]
            original = self._reference(len(scores), passage)
            scores.append(quality.score(passage, original, quality.logits_of(variant.model, passage)))
        return quality.summarize(scores), enough()

    def _step(self, work: Callable[[], R]) -> R:
        """One step on the model, on the one thread that owns torch: a second thread would bring a second team of
        workers, and both would fight for the cores."""
        if threading.current_thread() is self._owner:
            return work()
        return self._engine.submit(work).result()

    def _reference(self, number: int, passage: quality.Passage) -> Tensor:
        if number in self._references:
            return self._references[number]
        logits = quality.logits_of(self.loaded.model, passage)
        if sum(len(kept) for kept in self._references.values()) + len(logits) <= REFERENCE_TOKENS_KEPT:
            self._references[number] = logits
        return logits


def _is_query(name: str) -> bool:
    return name.endswith(("q_proj", "query"))
