"""The kernel table: every kernel on every shape, kept, and never believed when the file is not what was written."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer.measure import machine
from explorer.values.performance import Machine

SHAPES = [(64, 128), (128, 64), (64, 128)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "READ_BYTES", 2**16)
    monkeypatch.setattr(machine, "CACHED_BYTES", 2**15)
    monkeypatch.setattr(machine, "LAPS", 3)


def last(folder: Path, shapes: list[tuple[int, int]] = SHAPES) -> Machine:
    return list(machine.measure(shapes, torch.bfloat16, "cpu", folder))[-1]


@pytest.mark.usefixtures("small")
def test_the_table_has_every_kernel_of_every_shape_once(tmp_path: Path) -> None:
    found = last(tmp_path)
    rows = [(each.kernel, each.shape, each.tokens) for each in found.products]
    assert len(set(rows)) == len(rows) and {shape for _, shape, _ in rows} == set(SHAPES)
    kernels = {kernel for kernel, _, _ in rows}
    assert {"dense", "int4pack", "int8pack"} <= kernels and "decoded" not in kernels
    assert len(rows) == len(kernels) * 2 * len(machine.TOKENS)
    assert all(each.ms.how == "measured" and each.ms.value > 0 for each in found.products)
    assert found.bandwidth.value > 0 and found.bandwidth.unit == "bytes/s" and found.dtype == "bfloat16"


@pytest.mark.usefixtures("small")
def test_it_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = last(tmp_path)
    monkeypatch.setattr(machine, "timed", lambda work: pytest.fail("measured again"))
    assert list(machine.measure(SHAPES, torch.bfloat16, "cpu", tmp_path)) == [first]


@pytest.mark.usefixtures("small")
def test_other_shapes_and_another_dtype_have_a_table_of_their_own(tmp_path: Path) -> None:
    last(tmp_path), last(tmp_path, [(64, 64)])
    list(machine.measure([(64, 64)], torch.float32, "cpu", tmp_path))
    assert len(list(tmp_path.glob("*.json"))) == 3


@pytest.mark.usefixtures("small")
def test_whoever_stops_leaves_no_half_table(tmp_path: Path) -> None:
    steps = machine.measure(SHAPES, torch.bfloat16, "cpu", tmp_path)
    next(steps), steps.close()
    assert not list(tmp_path.iterdir())


def _without(part: str) -> Any:
    return lambda content: {name: value for name, value in content.items() if name != part}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: "no JSON",
        lambda content: [],
        lambda content: content | {"products": []},
        lambda content: content | {"products": [{"kernel": "k"}]},
        lambda content: content | {"bandwidth": content["bandwidth"] | {"value": -1}},
        lambda content: content | {"bandwidth": content["bandwidth"] | {"value": float("nan")}},
        lambda content: content | {"bandwidth": content["bandwidth"] | {"how": "guessed"}},
        lambda content: content | {"key": content["key"] | {"processor": "another chip"}},
        _without("key"),
        _without("bandwidth"),
    ],
)
def test_a_spoiled_file_counts_as_absent(tmp_path: Path, spoil: Any) -> None:
    last(tmp_path)
    (file,) = tmp_path.glob("*.json")
    content = json.loads(file.read_text())
    key = content["key"]
    assert machine.load(file, key)
    spoiled = spoil(content)
    file.write_text(spoiled if isinstance(spoiled, str) else json.dumps(spoiled))
    assert machine.load(file, key) is None
    assert last(tmp_path) and machine.load(file, key)  # measured and written anew


def test_the_processor_has_a_name() -> None:
    assert machine.processor("cpu")
