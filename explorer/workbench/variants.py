"""The models made from one base, and what each will weigh: predicted from shapes, built step by step, counted, moved to
its kernels, and kept. Equal recipes are one variant, in memory the last few, on disk those that took long."""

import copy
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explorer.layers.targets import siblings, targets
from explorer.measure import size
from explorer.model import kept
from explorer.model.compressing import Built, build, kernels_of, notes_of, reshape, settle, skeleton
from explorer.model.facts import Facts, release
from explorer.model.healing import heal
from explorer.model.plan import NOTHING, Allotment
from explorer.model.teach import Lessons
from explorer.values.footprint import Footprint
from explorer.values.progress import HealStep, scaled
from explorer.values.recipe import Recipe

KEPT = 3  # variants in memory
CUTS_KEPT = 32  # of which shapes are known

Steps = Generator[float, None, Built]
Stopped = Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A compressed model ready to run, and what it costs. Never changed once it is here."""

    recipe: Recipe
    model: nn.Module
    size: Footprint
    kernel: str
    allotted: Allotment
    seconds: float


class Variants:
    """`step` runs one step of work on the model where and when it may run (see `Workbench`); `teach` gives the lessons
    that students learn from. `curves` are those of all that were healed, the one at work included."""

    def __init__(
        self,
        base: nn.Module,
        facts: Facts,
        folder: Path,
        step: Callable[[Callable[[], Any]], Any] = lambda work: work(),
        teach: Callable[[], Generator[float, None, Lessons]] | None = None,
    ) -> None:
        self._base, self._facts, self._folder, self._step = base, facts, folder, step
        self._teach = teach
        self.siblings = siblings(base)
        shapes: dict[int, Any] = {id(t): torch.empty_like(t, device="meta") for t in base.buffers()}
        shapes |= {id(p): nn.Parameter(torch.empty_like(p, device="meta"), False) for p in base.parameters()}
        self._shapes = copy.deepcopy(base, shapes)  # what is tied stays tied, and no weight is copied
        self._predictors = {Recipe(): size.Predictor(base, targets(base))}
        self._ready: OrderedDict[Recipe, Variant] = OrderedDict()
        self.allotted: dict[Recipe, Allotment] = {}
        self.curves: dict[Recipe, tuple[HealStep, ...]] = {}
        self._turn = 0  # goes up when facts get better

    def predict(self, recipe: Recipe) -> Footprint:
        """File bytes by arithmetic; exact, but for a global budget that was not shared out yet."""
        return self.predictor(recipe).predict(recipe, self.allotted.get(recipe, NOTHING))

    def predictor(self, recipe: Recipe) -> size.Predictor:
        """One for each choice of blocks, channels and heads, from shapes on the meta device."""
        cuts = _cuts(recipe)
        found = self._predictors.get(cuts)
        if found is None:
            smaller, _, _ = reshape(self._shapes, cuts, Facts(), self._facts)
            found = size.Predictor(smaller, targets(smaller), self._predictors[Recipe()])
            for known in list(self._predictors)[1 : 2 - CUTS_KEPT]:  # the first is the original's
                self._predictors.pop(known, None)
            self._predictors[cuts] = found
        return found

    def outline(self, recipe: Recipe) -> nn.Module:
        """The recipe's unsettled model without its numbers, on the meta device; ranks and masks that a global budget
        did not share out yet are those of an even one."""
        smaller = reshape(self._shapes, _cuts(recipe), Facts(), self._facts)[0]
        with torch.device("meta"):
            return skeleton(smaller, recipe, self.allotted.get(recipe, NOTHING))

    def apply(self, recipe: Recipe, stopped: Stopped = lambda: False) -> Iterator[float]:
        """Make the model of a recipe from the original, step by step; yields the share done. A caller may stop.

        When `stopped` says so, healing ends early, and a caller who goes on to the end gets the recipe with the steps
        that were done, the last of its curve, published as that.
        """
        if self._recall(recipe):
            return
        started, turn = time.perf_counter(), self._turn
        if not self._facts.tokens and not recipe.data_free:
            raise ValueError("This needs the calibration, which is not done yet.")
        file = self._file(recipe)
        found = self._step(lambda: kept.load(self._reduced(recipe), recipe, file)) if recipe.slow else None
        if found:
            self._step(lambda: self._publish(recipe, found, started))
            return
        steps = self._no_grad(self._made(recipe, stopped))
        share: float | Built = 0.0
        while not isinstance(share, Built):
            share = self._step(lambda: next(steps))
            if not isinstance(share, Built):
                yield share
        built = share
        if built.curve and built.curve[-1].step == 0:  # stopped before anything was learned
            yield from self.apply(replace(recipe, heal=0), stopped)
            return
        done = replace(recipe, heal=built.curve[-1].step) if built.curve else recipe

        def finish() -> bool:
            if self._turn != turn and not recipe.data_free:
                return False
            keeps = done.slow and (self._facts.saved or recipe.data_free)  # kept once the facts are
            self._publish(done, self._saved(done, built) if keeps else built, started)
            if done.slow:
                release()
            return True

        if not self._step(finish):  # meanwhile the facts have got better
            yield from self.apply(recipe, stopped)

    def _saved(self, recipe: Recipe, built: Built) -> Built:
        """Kept on disk; where that cannot be, the model is there all the same, with a note."""
        try:
            kept.save(built, self._reduced(recipe), self._file(recipe))
        except OSError as problem:
            note = f"Not kept for the next start: {problem}"
            return replace(built, note=" ".join(filter(None, [built.note, note])))
        return built

    def _made(self, recipe: Recipe, stopped: Stopped = lambda: False, plain: bool = False) -> Steps:
        """Built from the original, and healed; `plain` by the next-token loss, to compare with."""
        if not recipe.heal:
            return (yield from build(self._base, recipe, self._facts))
        if self._teach is None:
            raise ValueError("There are no texts here to heal with.")
        if not plain:
            self.curves.pop(recipe, None)
        wounded = replace(recipe, heal=0)
        there = wounded.slow and not recipe.mends
        built = kept.load(self._reduced(wounded), wounded, self._file(wounded)) if there else None
        if built is None:
            built = yield from scaled(build(self._base, recipe, self._facts), 0.0, 0.1)
        lessons = yield from scaled(self._teach(), 0.1, 0.2)
        options: dict[str, Any] = {"rate": recipe.heal_rate, "seed": recipe.heal_seed, "plain": plain}
        options |= {"everything": recipe.structural, "inside": recipe.depth == 0 and not recipe.rotate}
        options["stopped"] = stopped
        steps, curve = heal(built.model, lessons, recipe.heal, **options), list[HealStep]()
        while True:
            try:
                curve.append(next(steps))
            except StopIteration as end:
                return replace(built, model=end.value, curve=tuple(curve))
            if not plain:
                self.curves[recipe] = tuple(curve)
            yield 0.3 + 0.7 * curve[-1].step / recipe.heal

    def control(self, recipe: Recipe) -> Iterator[float | Built]:
        """The recipe healed by the plain next-token loss on the same text; yields shares done, at the end the model."""
        steps = self._no_grad(self._made(recipe, plain=True))
        while not isinstance(share := self._step(lambda: next(steps)), Built):
            yield share
        yield share

    def get(self, recipe: Recipe) -> Variant:
        """The model of a recipe; equal recipes are one variant."""
        while True:
            found = self._recall(recipe)
            if found:
                return found
            for _ in self.apply(recipe):
                pass

    @staticmethod
    def _no_grad(steps: Steps) -> Iterator[float | Built]:
        """Shares done, and at the end what was built; torch's grad mode is a thread's, so it never spans a yield."""
        while True:
            try:
                with torch.no_grad():
                    share = next(steps)
            except StopIteration as end:
                yield end.value
                return
            yield share

    def known(self, recipe: Recipe) -> bool:
        """Whether it is in memory, or on disk."""
        return recipe in self._ready or recipe.slow and self._file(recipe).is_file()

    def _recall(self, recipe: Recipe) -> Variant | None:
        found = self._ready.get(recipe)
        if found:
            with suppress(KeyError):  # the engine may just have let it go
                self._ready.move_to_end(recipe)
        return found

    def _reduced(self, recipe: Recipe) -> nn.Module:
        return reshape(self._base, recipe, self._facts)[0]

    def _publish(self, recipe: Recipe, built: Built, started: float) -> None:
        """Count what is stored, move it to its kernels, and let everybody use it."""
        self.allotted[recipe] = built.allotted
        if built.curve:
            self.curves[recipe] = built.curve
        predicted = self.predictor(recipe).predict(recipe, built.allotted)
        with torch.no_grad():
            stored, weights = size.stored_bytes(built.model), size.kept_parameters(built.model)
            model = settle(built.model, self.siblings)
        notes = [*notes_of(model), *([built.note] if built.note else [])]
        footprint = size.footprint(
            stored,
            weights,
            self._predictors[Recipe()].original,
            int(predicted.predicted_bytes.value),
            "measured",
            predicted.parts,
            size.resident_bytes(model),
            notes,
        )
        footprint = replace(
            footprint, active_parameters=predicted.active_parameters, active_bytes=predicted.active_bytes
        )
        self._ready[recipe] = Variant(
            recipe=recipe,
            model=model,
            size=footprint,
            kernel=" + ".join(kernels_of(model)),
            allotted=built.allotted,
            seconds=time.perf_counter() - started,
        )
        while len(self._ready) > KEPT:
            self._ready.popitem(last=False)

    def unsettled(self, recipe: Recipe, anew: bool = False) -> Built:
        """The model as it is stored, for a file; `anew` leaves aside what is kept on disk."""
        built: Built | float | None = None
        if recipe.slow and not anew:
            built = self._step(lambda: kept.load(self._reduced(recipe), recipe, self._file(recipe)))
        steps = self._no_grad(self._made(recipe))
        while not isinstance(built, Built):
            built = self._step(lambda: next(steps))
        return built

    def transient(self, recipe: Recipe) -> nn.Module:
        """A recipe's model ready to run, the one that is kept or one that nobody keeps."""
        known = self._ready.get(recipe)
        if known:
            return known.model
        built = self.unsettled(recipe)
        return self._step(lambda: settle(built.model, self.siblings))  # type: ignore[no-any-return]

    def forget(self) -> None:
        """What was made with facts that are better now, or is being made with them."""
        self._turn += 1
        self._predictors = {Recipe(): self._predictors[Recipe()]}  # blocks are chosen anew
        for stale in (self._ready, self.allotted, self.curves):
            for recipe in [recipe for recipe in list(stale) if not recipe.data_free]:
                stale.pop(recipe, None)  # type: ignore[attr-defined]

    def _file(self, recipe: Recipe) -> Path:
        return kept.file_of(self._folder, self._facts.tokens, recipe)


def _cuts(recipe: Recipe) -> Recipe:
    """What of it takes blocks, channels and heads out."""
    names = ("depth", "depth_by", "width", "heads", "width_by")
    return Recipe(**{name: getattr(recipe, name) for name in names})
