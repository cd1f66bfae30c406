"""A second model beside the one that is compressed, by Hub name, folder, .gguf file or export of this program: opened
once, and met by settings of ours on the same bytes of text and in the same minutes of the clock."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from explorer.layers.targets import targets
from explorer.measure import bytewise, cost, size
from explorer.measure.speed import Stopwatch, time_in_turns
from explorer.model import exporting, opening, places
from explorer.model.gguf_parts import gguf_bytes
from explorer.model.plan import NOTHING
from explorer.model.preflight import check_folder
from explorer.model.writing import context_length, prompt_ids, stream
from explorer.values.contest import Contender, Contest
from explorer.values.footprint import Cost, Footprint
from explorer.values.progress import Telling, told
from explorer.values.prompt import Prompt
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.values.written import Piece
from explorer.workbench.workbench import COST_CONTEXT, Workbench

BYTES_PER_TOKEN = 4  # what is read, in bytes, for each evaluation token that is asked for
GGUF_NOTE = "Its size is that of the .gguf file; it ran decoded to bfloat16, so its time is that of bfloat16."


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A model that is open and ready to run, and what it costs."""

    name: str
    model: nn.Module
    tokenizer: Any
    size: Footprint
    cost: Cost
    note: str = ""


def open_rival(place: places.Place, device: str = "cpu") -> Rival:
    """ModelRejected in one sentence where the folder cannot be opened."""
    if exporting.is_export(place.folder):
        model, tokenizer, recipe = exporting.read(place.folder)
        base, allotted, note = opening.structure(place.folder), exporting.described(place.folder)[1], recipe.words()
        model = model.to(device)
    else:
        loaded = opening.open_place(place, device=device)
        base = model = loaded.model
        tokenizer, recipe, allotted, note = loaded.tokenizer, Recipe(), NOTHING, place.note
    found = targets(base)
    kept = size.Predictor(base, found).predict(recipe, allotted)
    stored = check_folder(place.folder, quantized=True).tensor_bytes
    if place.file:
        stored, note = gguf_bytes(place.file), GGUF_NOTE
    return Rival(
        name=place.name,
        model=model,
        tokenizer=tokenizer,
        size=replace(kept, file_bytes=Reading(value=stored, unit="bytes", how="measured")),
        cost=cost.flops_per_token(found, recipe, cost.attention_width(found, base.config), COST_CONTEXT, allotted),
        note=note,
    )


class Rivalry:
    """One rival at a time of one workbench, and what is known of both on the same pieces of text."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.rival: Rival | None = None
        self._pieces: list[bytewise.Piece] = []
        self._facts = 0
        self._nats: dict[Recipe | None, list[float]] = {}  # None: the rival's

    def open(self, name: str) -> Rival:
        """As `opening`, in one go."""
        return told(self.opening(name), lambda _: None)

    def opening(self, name: str) -> Telling[Rival]:
        """The rival of this name, opened anew unless it is the one that is there; it is fetched beside the steps on the
        model, which go on meanwhile, and a caller may stop."""
        if self.rival is None or self.rival.name != name:
            self.rival = None  # its memory first
            self._nats.pop(None, None)
            place = yield from places.locate(name, self.bench.engine.step)
            yield f"Opening {name}."
            self.rival = self.bench.engine.step(partial(open_rival, place, self.bench.device))
        return self.rival

    def meet(
        self, recipes: Sequence[Recipe], tokens: int = 2048, rounds: int = 3, decode_steps: int = 8
    ) -> Iterator[float | Contest]:
        """The rival, the original and these settings of it on at least 4 × `tokens` bytes of the evaluation texts, or
        all there are; yields shares done, and the contest at the end. Settings must be built before (`apply`)."""
        bench, rival = self.bench, self.rival
        if rival is None:
            raise ValueError("There is no rival yet: open one first.")
        ours = list(dict.fromkeys([Recipe(), *recipes]))
        self._cut(rival, BYTES_PER_TOKEN * tokens)
        original, other = Stopwatch(bench.loaded.model, "dense"), Stopwatch(rival.model, "")
        met = list[Contender]()
        for done, recipe in enumerate(ours):
            variant = bench.variant(recipe)
            sides: dict[Recipe | None, tuple[nn.Module, Any]] = {None: (rival.model, rival.tokenizer)}
            sides[recipe] = (variant.model, bench.loaded.tokenizer)
            for read, (key, side) in enumerate(sides.items()):
                for share in self._read(key, *side):
                    yield (done + (read + share) / 4) / len(ours)
            watch = original if recipe == Recipe() else Stopwatch(variant.model, variant.kernel)
            watches = list(dict.fromkeys([original, watch, other]))
            for turn in bench.engine.steps(time_in_turns(watches, rounds=rounds, decode_steps=decode_steps)):
                yield (done + (1 + turn / rounds) / 2) / len(ours)
            known = variant.size, bench.cost(recipe)
            met.append(self._contender(recipe.words(), recipe, known, watch))
        against = self._contender(rival.name, None, (rival.size, rival.cost), other)
        counted = sum(piece.counted for piece in self._pieces)
        whole = sum(len(text.encode()) for group in bench.texts.values() for text in group)
        mean = whole / sum(passage.predicted for passage in bench.passages)
        yield Contest(rival=against, ours=tuple(met), count=counted, bytes_per_token=mean, note=rival.note)

    def _contender(
        self, name: str, recipe: Recipe | None, known: tuple[Footprint, Cost], watch: Stopwatch
    ) -> Contender:
        footprint, spent = known
        nats, theirs = self._nats[recipe], self._nats[None]
        return Contender(
            name=name,
            recipe=recipe,
            file_bytes=footprint.file_bytes,
            parameters=footprint.parameters,
            ms_per_token=watch.speed().ms_per_token,
            flops_per_token=spent.flops_per_token,
            bits_per_byte=bytewise.bits_per_byte(self._pieces, nats),
            difference=None if recipe is None else bytewise.difference(self._pieces, nats, theirs),
        )

    def write(self, prompt: Prompt, stopped: Callable[[], bool] = lambda: False) -> Iterator[Piece]:
        """The rival's text after a prompt, in its own chat template."""
        rival = self.rival
        assert rival
        yield from self.bench.engine.steps(
            stream(
                rival.model,
                rival.tokenizer,
                prompt_ids(rival.model, rival.tokenizer, prompt.text, chat=prompt.chat),
                new_tokens=prompt.new_tokens,
                seed=prompt.seed,
                temperature=prompt.temperature,
                stopped=stopped,
            )
        )

    def _cut(self, rival: Rival, least: int) -> None:
        longest = min(bytewise.LONGEST, *(context_length(m) - 2 for m in (self.bench.loaded.model, rival.model)))
        cut = bytewise.pieces(self.bench.texts, least, longest)
        if (cut, self.bench.facts.tokens) != (self._pieces, self._facts):
            self._pieces, self._facts = cut, self.bench.facts.tokens
            self._nats.clear()

    def _read(self, key: Recipe | None, model: nn.Module, tokenizer: Any) -> Iterator[float]:
        """Nats of every piece that is not known yet; yields the share done."""
        nats = self._nats.setdefault(key, [])
        while len(nats) < len(self._pieces):
            piece = self._pieces[len(nats)]
            nats.append(self.bench.engine.step(partial(bytewise.nats_of, model, tokenizer, piece)))
            yield len(nats) / len(self._pieces)
