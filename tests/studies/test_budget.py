"""A budget is kept, the choice is the best there is, and a new one needs no model."""

from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest

from explorer.studies import budget, trade
from explorer.studies.budget import Limits
from explorer.studies.trade import THIN, Curve, Option, Trade, Way
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

SMALL = [
    Curve(
        names=(f"m{i}",),
        options=tuple(
            Option(way=Way(bits=b), size=b * (7 + 3 * i), kl=(1 + i) / 4**b, ms=(b + 2 * i) / 4) for b in (2, 3, 4, 8)
        ),
    )
    for i in range(5)
]
ALL = [(sum(o.size for o in each), sum(o.kl for o in each)) for each in product(*(curve.options for curve in SMALL))]


@pytest.fixture
def measured(workbench: Workbench, tmp_path: Path) -> list[Trade]:
    *_, found = trade.trades(workbench, tmp_path / "budget")
    assert isinstance(found, list)
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


@pytest.mark.parametrize("pace, kept", [(2.0, 2.0), (0.7, 0.7), (100.0, budget.PACES[1])])
def test_times_are_those_of_now(
    workbench: Workbench, measured: list[Trade], monkeypatch: pytest.MonkeyPatch, pace: float, kept: float
) -> None:
    """Products at one pace, thin factors, of which there are more, at another."""
    at_4, thin = (
        sum(
            o.ms
            for curve in measured[0].curves
            for o in curve.options
            if o.way == (Way(bits=4) if curve.outside else w)
        )
        for w in (Way(bits=4), THIN)
    )
    rest = max(1.0 + (pace - kept) * at_4, 0.0)
    taken = {Recipe(bits=4, head_bits=4): 1.0 + pace * at_4, THIN.recipe: rest + 3 * thin}
    base = SimpleNamespace(ms_per_token=Reading.timing([1.0 + pace * (at_4 + 5.0)]))
    monkeypatch.setattr(budget, "plain_ms", lambda _: at_4 + 5.0)
    monkeypatch.setattr(
        workbench,
        "time",
        lambda recipe, **_: iter([(base, SimpleNamespace(ms_per_token=Reading.timing([taken[recipe]])))]),
    )
    now, found = budget.as_now(workbench, measured)
    assert found == pytest.approx(rest, abs=1e-9)
    for old, new in zip(measured, now, strict=True):
        for before, after in zip(old.curves, new.curves, strict=True):
            paces = [kept if o.way.keep == 1 else 3 for o in before.options]
            assert [o.ms for o in after.options] == pytest.approx(
                [p * o.ms for p, o in zip(paces, before.options, strict=True)]
            )
            assert [o.size for o in after.options] == [o.size for o in before.options]


def test_time_is_that_of_the_products_and_of_a_model_that_ran(workbench: Workbench, measured: list[Trade]) -> None:
    now, rest = budget.as_now(workbench, measured)
    choice = budget.choose(workbench, now, Limits(ms=rest + 100), rest=rest)
    assert 0 < choice.ms.value <= rest + 100
    with pytest.raises(ValueError, match="ms a token"):
        budget.choose(workbench, measured, Limits(ms=rest / 100), rest=rest)


def test_what_cannot_be_kept_is_one_sentence(workbench: Workbench, measured: list[Trade]) -> None:
    with pytest.raises(ValueError, match="the least is"):
        budget.solve(SMALL, Limits(size=50))
    with pytest.raises(ValueError, match="the least is"):
        budget.solve(SMALL, Limits(kl=1e-9))
    with pytest.raises(ValueError, match=r"^No choice keeps this budget; the least is 1107.5 ms a token\.$"):
        budget.solve(SMALL, Limits(ms=1101), ms=1100)
    with pytest.raises(ValueError, match=r"^No choice keeps this budget; the least is .* MB"):
        budget.choose(workbench, measured, Limits(size=1000))


@pytest.mark.parametrize("level", ["live", "best"])
@pytest.mark.parametrize("share", [0.15, 0.2, 0.3, 0.5])
def test_bytes_are_within_the_budget_as_built(
    workbench: Workbench, measured: list[Trade], share: float, level: str
) -> None:
    most = share * workbench.preview(Recipe()).file_bytes.value
    choice = budget.choose(workbench, measured, Limits(size=most), level=level)
    built = workbench.variant(choice.recipe).size.file_bytes.value
    assert built == choice.size.value <= most
    if choice.runner_up:
        assert choice.runner_up.size.value <= most and choice.kl.value <= choice.runner_up.kl.value * 1.001


def cheap(curve: Curve, way: Way) -> Curve:
    """The same, but that one way is said to cost next to nothing."""
    options = [Option(way=o.way, size=o.size, kl=1e-9 if o.way == way else 10.0, ms=o.ms) for o in curve.options]
    assert any(o.way == way for o in options)
    return Curve(names=curve.names, options=tuple(options))


@pytest.mark.parametrize(
    "way", [Way(bits=3, sparsity=0.25), Way(bits=8, keep=0.6), Way(bits=6, keep=0.8), Way(bits=4, group=32)]
)
def test_zeros_ranks_and_finer_groups_are_taken_where_they_are_worth_it(
    workbench: Workbench, measured: list[Trade], way: Way
) -> None:
    curves = [c for c in measured[0].curves if any(o.way == way for o in c.options)]
    told = [cheap(c, way) if c in curves[:2] else c for c in measured[0].curves]
    choice = budget.choose(workbench, [Trade(curves=tuple(told))], Limits(kl=1.5), level="live")
    names = [name for curve in curves[:2] for name in curve.names]
    settings = [choice.recipe.setting(name, "mlp", 0, 2) for name in names]
    assert all((s.bits, s.sparsity, s.keep) == (way.bits, way.sparsity, way.keep) for s in settings)
    assert all(s.group == (way.group or Recipe().group_size(way.bits)) for s in settings)
    assert workbench.variant(choice.recipe).size.file_bytes.value == choice.size.value


def test_blocks_go_where_the_time_allows_no_more(workbench: Workbench, measured: list[Trade]) -> None:
    assert [t.depth for t in measured] == [0.0, 0.5]  # of two blocks only one can go
    least = sum(min(o.ms for o in curve.options) for curve in measured[0].curves)
    choice = budget.choose(workbench, measured, Limits(ms=0.9 * least))
    assert choice.recipe.depth == 0.5 and choice.kl.value > measured[1].kl > 0
    assert workbench.variant(choice.recipe).size.file_bytes.value == choice.size.value


def test_a_new_budget_touches_no_model(
    workbench: Workbench, measured: list[Trade], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbench.engine, "step", lambda _: pytest.fail("the model was asked"))
    again = list(trade.trades(workbench, tmp_path / "budget"))
    assert again == [measured]
    assert budget.choose(workbench, measured, Limits(kl=0.05)).kl.value <= 0.05 * 1.001
