"""The study of a recipe's speed: what it finds, in which order, and that it can be stopped."""

import pytest

from explorer.measure import machine
from explorer.studies import profiling
from explorer.values.performance import Performance
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (machine, "READ_BYTES", 2**16),
        (machine, "CACHED_BYTES", 2**14),
        (machine, "LAPS", 2),
        (profiling, "BATCHES", (1, 2)),
        (profiling, "PROMPTS", (4, 16, 10**6)),
        (profiling, "SURFACE_ROUNDS", 2),
    ):
        monkeypatch.setattr(module, name, value)


def test_all_of_it_comes_bit_by_bit(workbench: Workbench) -> None:
    recipe = Recipe(bits=4, head_bits=4)
    steps = list(profiling.profile(workbench, recipe, prompt_tokens=8, batch=2, rounds=2))
    assert steps[0].machine is None and steps[0].recipe == recipe and steps[0].compressed.speed.batch == 2
    whole: Performance = steps[-1]
    assert whole.machine and whole.machine.products
    for side in (whole.original, whole.compressed):
        assert side.roofline and side.parts and side.energy and side.speed.prompt_tokens == 8
    assert [(cell.batch, cell.prompt_tokens) for cell in whole.surface] == [(1, 4), (2, 4), (1, 16), (2, 16)]
    assert all(cell.compressed.batch == cell.batch for cell in whole.surface)
    assert whole.compressed.roofline.bytes_per_token.value < whole.original.roofline.bytes_per_token.value  # type: ignore[union-attr]


def test_the_limit_is_what_is_read_over_the_bandwidth(workbench: Workbench) -> None:
    whole = list(profiling.profile(workbench, Recipe(), prompt_tokens=8, rounds=2))[-1]
    side, on = whole.original, whole.machine
    assert side.roofline and on
    config = workbench.loaded.model.config
    kept = 2 * 8 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 2  # type: ignore[union-attr, operator]
    weights = sum(p.numel() for p in workbench.loaded.model.parameters()) * 2  # the head is tied: its table is read
    read = side.roofline.bytes_per_token.value - kept
    assert weights <= read <= weights * 1.05  # and the tables of the rotation
    assert side.roofline.floor_ms.value == pytest.approx((read + kept) / on.bandwidth.value * 1e3)
    assert side.roofline.share.value == pytest.approx(side.roofline.floor_ms.value / side.speed.ms_per_token.value)


def test_a_second_study_takes_the_table_that_is_kept(workbench: Workbench) -> None:
    first, second = (list(profiling.machine_of(workbench)) for _ in range(2))
    assert len(first) > 1 and second == [first[-1]]


def test_whoever_stops_ends_it(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = profiling.profile(workbench, Recipe(bits=4), rounds=2)
    next(steps)
    steps.close()
    monkeypatch.setattr(workbench, "time", lambda *_, **__: pytest.fail("went on"))
    assert next(steps, None) is None
