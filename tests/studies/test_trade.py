"""What every way of keeping a matrix costs: measured once, kept, and of the model alone."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from explorer.layers.targets import Target, targets
from explorer.studies import trade
from explorer.studies.trade import THIN, WIDTHS, Trade
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench


@pytest.fixture
def measured(workbench: Workbench, tmp_path: Path) -> list[Trade]:
    *shares, found = trade.trades(workbench, tmp_path / "budget")
    assert shares == sorted(shares) and isinstance(found, list)  # type: ignore[type-var]
    return found


def test_every_matrix_has_a_curve_that_falls_with_bits_and_siblings_share_theirs(measured: list[Trade]) -> None:
    for place, one in enumerate(measured):
        names = [name for curve in one.curves for name in curve.names]
        assert len(names) == len(set(names)) == (2 - place) * 7 + 1 and {len(c.names) for c in one.curves} == {1, 2, 3}
        for curve in one.curves:
            plain = [option for option in curve.options if option.way.plain and not option.way.group]
            assert [option.way.bits for option in plain] == list(WIDTHS)
            nats, sizes = [o.kl for o in plain], [o.size for o in plain]
            assert nats[0] > nats[3] > nats[5] >= 0 and sizes == sorted(sizes)
            assert all(option.ms > 0 for option in curve.options)
            for fine in (option for option in curve.options if option.way.group):
                usual = next(option for option in plain if option.way.bits == fine.way.bits)
                assert fine.size > usual.size and fine.kl < usual.kl


def test_no_way_is_beaten_by_another_in_everything(measured: list[Trade]) -> None:
    for curve in measured[0].curves:
        for one in curve.options:
            better = [o for o in curve.options if o.size < one.size and o.kl < one.kl and o.ms < one.ms]
            assert one.way.plain or one.way == THIN or not better


def test_bytes_are_those_of_a_model_kept_so(workbench: Workbench, measured: list[Trade]) -> None:
    shapes = {t.name: t.shape for t in targets(workbench.loaded.model)}
    element = next(workbench.loaded.model.parameters()).element_size()
    seen = set()
    for curve in measured[0].curves:
        before = sum(math.prod(shapes[name]) * element for name in curve.names)
        for option in [] if curve.outside else curve.options:
            own = ",".join(f"{name}:{value:g}" for name, value in vars(option.way).items() if value is not None)
            recipe = Recipe(layers=tuple(f"{name}={own}" for name in curve.names), quant=option.way.recipe.quant)
            saved = workbench.preview(Recipe()).file_bytes.value - workbench.preview(recipe).file_bytes.value
            assert saved == before - option.size, own
            seen.add(option.way)
    assert len(seen) > len(WIDTHS)  # zeros or factors too


def test_a_measurement_that_was_stopped_goes_on_where_it_was(
    workbench: Workbench, measured: list[Trade], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapped: list[str] = []
    alone = trade.layers.alone

    def counted(*given: Any) -> Iterator[tuple[Target, float]]:
        for target, kl in alone(*given):
            swapped.append(target.name)
            yield target, kl

    monkeypatch.setattr(trade.layers, "alone", counted)
    for stop_after in (3, 12, 18):
        steps = trade.trades(workbench, tmp_path / "again")
        for _ in zip(range(stop_after), steps, strict=False):
            pass
        steps.close()  # type: ignore[attr-defined]
    assert list(trade.trades(workbench, tmp_path / "again"))[-1] == measured
    assert len(swapped) == len(set(swapped)) == 15


@pytest.mark.parametrize("damage", ["rows", "version", "text", "left"])
def test_a_damaged_file_counts_as_absent(
    workbench: Workbench, measured: list[Trade], tmp_path: Path, damage: str
) -> None:
    file = next((tmp_path / "budget").iterdir())
    kept = json.loads(file.read_text())
    if damage == "rows":
        kept["rows"]["model.layers.0.mlp.up_proj"]["errors"]["4 0 1"] = -1
    elif damage == "left":
        kept["gone"][0]["left"]["model.layers.0.mlp.up_proj"] = "nothing"
    else:
        kept["version"] = 1
    file.write_text("{" if damage == "text" else json.dumps(kept))
    found = list(trade.trades(workbench, tmp_path / "budget"))
    assert len(found) > 1 and found[-1] == measured


def test_it_waits_for_the_calibration(unprepared: Workbench, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs the calibration"):
        next(trade.trades(unprepared, tmp_path))


def test_what_is_judged_on_plays_no_part_in_choosing(
    workbench: Workbench, measured: list[Trade], tmp_path: Path, folders: dict[str, Path]
) -> None:
    other = Workbench(str(folders["llama"]), texts={"other": ["a text of its own"]}).load()
    assert list(trade.trades(other, tmp_path / "elsewhere"))[-1] == measured
