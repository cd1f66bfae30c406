"""A budget is kept, the choice is the best there is, and a new one needs no model."""

from itertools import product
from pathlib import Path

import pytest

from explorer import budget
from explorer.budget import Curve, Limits, Option
from explorer.recipe import Recipe
from explorer.workbench import Workbench

SMALL = [
    Curve(
        names=(f"m{i}",),
        options=tuple(
            Option(bits=b, size=b * (7 + 3 * i), kl=(1 + i) / 4**b, ms=(b + 2 * i) / 4) for b in (2, 3, 4, 8)
        ),
    )
    for i in range(5)
]
ALL = [(sum(o.size for o in each), sum(o.kl for o in each)) for each in product(*(curve.options for curve in SMALL))]


@pytest.fixture
def measured(workbench: Workbench, tmp_path: Path) -> list[Curve]:
    *shares, found = budget.curves(workbench, tmp_path / "budget")
    assert shares == sorted(shares) and isinstance(found, list)  # type: ignore[type-var]
    return found


@pytest.mark.parametrize("size", range(140, 560, 30))
def test_no_other_choice_within_the_bytes_costs_less(size: int) -> None:
    chosen = budget.solve(SMALL, Limits(size=size))
    assert sum(o.size for o in chosen) <= size
    assert sum(o.kl for o in chosen) <= 1.001 * min(nats for bytes_, nats in ALL if bytes_ <= size)


@pytest.mark.parametrize("kl", [0.9, 0.3, 0.05, 0.01])
def test_no_other_choice_within_the_nats_is_smaller(kl: float) -> None:
    chosen = budget.solve(SMALL, Limits(kl=kl))
    assert sum(o.kl for o in chosen) <= kl * 1.001
    assert sum(o.size for o in chosen) <= 1.001 * min(bytes_ for bytes_, nats in ALL if nats <= kl)


def test_bytes_and_time_are_both_kept() -> None:
    every = [
        [sum(getattr(o, name) for o in each) for name in ("size", "ms", "kl")]
        for each in product(*(curve.options for curve in SMALL))
    ]
    for size, ms in ((300, 9.0), (300, 11.0), (500, 9.5), (10**6, 10.0)):
        chosen = budget.solve(SMALL, Limits(size=size, ms=ms))
        assert sum(o.size for o in chosen) <= size and sum(o.ms for o in chosen) <= ms
        assert sum(o.kl for o in chosen) <= 1.001 * min(nats for b, t, nats in every if b <= size and t <= ms)
    quick = budget.solve(SMALL, Limits(ms=10.0, kl=0.5))
    assert sum(o.size for o in quick) == min(b for b, t, nats in every if t <= 10.0 and nats <= 0.5)


def test_time_is_that_of_the_products_and_of_a_model_that_ran(workbench: Workbench, measured: list[Curve]) -> None:
    rest = budget.rest_ms(workbench, measured)
    for curve in measured:
        assert all(option.ms > 0 for option in curve.options)
    choice = budget.choose(workbench, measured, Limits(ms=rest + 100), rest=rest)
    assert rest < choice.ms.value <= rest + 100
    with pytest.raises(ValueError, match="ms a token"):
        budget.choose(workbench, measured, Limits(ms=rest), rest=rest)


def test_what_cannot_be_kept_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="the least is"):
        budget.solve(SMALL, Limits(size=50))
    with pytest.raises(ValueError, match="the least is"):
        budget.solve(SMALL, Limits(kl=1e-9))


def test_every_matrix_has_a_curve_that_falls_with_bits_and_siblings_share_theirs(measured: list[Curve]) -> None:
    names = [name for curve in measured for name in curve.names]
    assert len(names) == len(set(names)) == 2 * 7 + 1 and {len(curve.names) for curve in measured} == {1, 2, 3}
    for curve in measured:
        nats, sizes = [o.kl for o in curve.options], [o.size for o in curve.options]
        assert nats[0] > nats[3] > nats[5] >= 0 and sizes == sorted(sizes)


@pytest.mark.parametrize("level", ["live", "best"])
@pytest.mark.parametrize("share", [0.2, 0.3, 0.5])
def test_bytes_are_within_the_budget_as_built(
    workbench: Workbench, measured: list[Curve], share: float, level: str
) -> None:
    most = share * workbench.preview(Recipe()).file_bytes.value
    choice = budget.choose(workbench, measured, Limits(size=most), level=level)
    built = workbench.variant(choice.recipe).size.file_bytes.value
    assert built == choice.size.value <= most
    if choice.runner_up:
        assert choice.runner_up.size.value <= most and choice.kl.value <= choice.runner_up.kl.value * 1.001


def test_a_new_budget_touches_no_model(
    workbench: Workbench, measured: list[Curve], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbench, "step", lambda _: pytest.fail("the model was asked"))
    again = list(budget.curves(workbench, tmp_path / "budget"))
    assert again == [measured]
    assert budget.choose(workbench, measured, Limits(kl=0.05)).kl.value <= 0.05 * 1.001


def test_a_damaged_file_counts_as_absent(workbench: Workbench, measured: list[Curve], tmp_path: Path) -> None:
    next((tmp_path / "budget").iterdir()).write_text('{"version": 2, "rows": [{"name": 3}]}')
    assert list(budget.curves(workbench, tmp_path / "budget"))[-1] == measured


def test_it_waits_for_the_calibration(unprepared: Workbench, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs the calibration"):
        next(budget.curves(unprepared, tmp_path))


def test_what_is_judged_on_plays_no_part_in_choosing(
    workbench: Workbench, measured: list[Curve], tmp_path: Path, folders: dict[str, Path]
) -> None:
    other = Workbench(str(folders["llama"]), texts={"other": ["a text of its own"]}).load()
    assert list(budget.curves(other, tmp_path / "elsewhere"))[-1] == measured
