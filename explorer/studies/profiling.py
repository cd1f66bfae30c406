"""How fast a recipe's model runs and why, one finding after another: times in turns, the machine's limits, where the
time goes, energy, and a surface over batch and prompt length."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from explorer.files import cache_folder
from explorer.layers.linear import device_of, dtype_of
from explorer.layers.targets import targets
from explorer.measure import cost, energy, machine, parts, size
from explorer.measure.speed import PROMPT_TOKENS
from explorer.model.decode import Continuation
from explorer.model.writing import context_length
from explorer.takes import requirements
from explorer.values.performance import Cell, Energy, Machine, Performance, Roofline, Side
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

BATCHES, PROMPTS = (1, 4, 8), (16, 64, 256)
SURFACE_ROUNDS, SURFACE_STEPS = 3, 4


def profile(
    bench: Workbench, recipe: Recipe, *, prompt_tokens: int = PROMPT_TOKENS, batch: int = 1, rounds: int = 5
) -> Iterator[Performance]:
    """Everything about the speed of a recipe beside the original, more with every yield; a caller may stop.

    The kernel table is measured when it is first asked for on a machine, and kept.
    """
    base, model = bench.loaded.model, bench.variant(recipe).model
    found: Performance | None = None
    for original, compressed in bench.time(recipe, rounds, prompt_tokens=prompt_tokens, batch=batch):
        sides = Side(speed=original), Side(speed=compressed)
        found = Performance(recipe=recipe, model=bench.name, original=sides[0], compressed=sides[1])
        yield found
    assert found
    for each in machine_of(bench):
        found = replace(found, machine=each)
        yield found
    long = {"prompt_tokens": compressed.prompt_tokens, "batch": batch}
    named = bench.variants.predictor(recipe).targets
    grams = requirements.default_prices().grid_g_per_kwh

    def side(old: Side, of: nn.Module, names: list[Any]) -> Side:
        return replace(
            old,
            roofline=_roofline(of, old, found.machine, batch),  # type: ignore[union-attr, arg-type]
            parts=bench.engine.step(lambda: parts.where(of, names, **long)),
            energy=bench.engine.step(lambda: _energy(of, old, grams)),
        )

    found = replace(found, original=side(found.original, base, targets(base)))
    yield found
    found = replace(found, compressed=side(found.compressed, model, named))
    yield found
    places: dict[tuple[int, int], Cell] = {}
    for cell in surface(bench, recipe):
        places[cell.batch, cell.prompt_tokens] = cell
        found = replace(found, surface=tuple(places.values()))
        yield found


def machine_of(bench: Workbench) -> Iterator[Machine]:
    """The machine with the kernel table for the shapes of this model, row by row the first time."""
    return bench.engine.steps(machine.measure(*machine.about(bench.loaded.model), cache_folder() / "machine"))


def surface(bench: Workbench, recipe: Recipe) -> Iterator[Cell]:
    """Original and compressed in turns in every cell of batch × prompt length that the context has room for; a cell
    comes anew with every round."""
    longest = context_length(bench.loaded.model) - SURFACE_STEPS
    for prompt_tokens in (tokens for tokens in PROMPTS if tokens <= longest):
        for batch in BATCHES:
            for pair in bench.time(recipe, SURFACE_ROUNDS, SURFACE_STEPS, prompt_tokens=prompt_tokens, batch=batch):
                yield Cell(batch=batch, prompt_tokens=prompt_tokens, original=pair[0], compressed=pair[1])


def _roofline(model: nn.Module, side: Side, on: Machine, batch: int) -> Roofline:
    element = dtype_of(model).itemsize
    kept = size.kv_cache_bytes(model.config, side.speed.prompt_tokens, element, batch)
    return cost.roofline(size.read_bytes(model), kept.value, on.bandwidth, side.speed.ms_per_token)


def _energy(model: nn.Module, side: Side, grams_per_kwh: float) -> Energy:
    speed, device = side.speed, device_of(model)
    text = Continuation(model)
    ids = torch.ones(speed.batch, speed.prompt_tokens, dtype=torch.long, device=device)
    text.feed(ids)
    ms = speed.ms_per_token.value
    return energy.per_token(lambda: text.feed(ids[:, :1]), ms, speed.batch, grams_per_kwh, device.type)
