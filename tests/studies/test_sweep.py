"""A sweep that is killed anywhere and resumed has every row once, and is the sweep that it would have been."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from explorer.__main__ import main
from explorer.studies import sweep
from explorer.studies.sweep import Table
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

GRID = [Recipe(bits=bits, quant="rtn", head_bits=head) for bits in (8, 4, 3) for head in (16, 4)]


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def swept(bench: Workbench, file: Path, recipes: Sequence[Recipe], search: int = 0) -> list[dict[str, Any]]:
    steps = sweep.run(bench, Table(file), recipes, tokens=20, rounds=0, search=search)
    return [step.row for step in steps if step.row]


def figures(rows: Sequence[dict[str, Any]]) -> list[Any]:
    return [(row["key"], row["size"], row["quality"]["kl"]) for row in rows]


def test_every_setting_is_a_row_once(unprepared: Workbench, tmp_path: Path) -> None:
    file = tmp_path / "sweep.jsonl"
    rows = swept(unprepared, file, GRID)
    assert [Recipe.from_dict(row["recipe"]) for row in rows] == GRID and rows_of(file) == rows
    assert all(row["quality"]["kl"] > 0 and row["fingerprint"] == unprepared.fingerprint for row in rows)
    before = file.read_bytes()
    assert swept(unprepared, file, GRID) == rows and file.read_bytes() == before


def test_a_table_cut_at_any_byte_loses_the_torn_row_only(tmp_path: Path) -> None:
    file = tmp_path / "sweep.jsonl"
    table = Table(file)
    for number, recipe in enumerate(GRID[:3]):
        table.add(f"é{number}", {"recipe": recipe.to_dict(), "value": number})
    whole = file.read_bytes()
    for cut in range(len(whole) + 1):
        file.write_bytes(whole[:cut])
        again = Table(file)
        assert (
            len(again.rows) == whole[:cut].count(b"\n") and file.read_bytes() == whole[: whole[:cut].rfind(b"\n") + 1]
        )
        for number, recipe in enumerate(GRID[:3]):
            if f"é{number}" not in again.rows:
                again.add(f"é{number}", {"recipe": recipe.to_dict(), "value": number})
        assert file.read_bytes() == whole and Table(file).rows == table.rows


def test_a_cut_sweep_goes_on_as_if_nothing_was(unprepared: Workbench, tmp_path: Path) -> None:
    file = tmp_path / "sweep.jsonl"
    whole = figures(swept(unprepared, file, GRID))
    content = file.read_bytes()
    for cut in (1, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:cut])
        assert figures(swept(unprepared, file, GRID)) == whole and figures(rows_of(file)) == whole


@pytest.mark.parametrize("content", ["bits,kl\n4,0.1\n", "a diary", '{"key": "x"}\n', "[1]\n"])
def test_a_file_that_is_no_table_is_left_as_it_is(tmp_path: Path, content: str) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(content)
    with pytest.raises(ValueError, match="choose another file"):
        Table(file)
    assert file.read_text() == content


def test_other_tokens_are_other_rows(unprepared: Workbench, tmp_path: Path) -> None:
    table = Table(tmp_path / "sweep.jsonl")
    for tokens in (20, 40, 20):
        list(sweep.run(unprepared, table, GRID[:1], tokens=tokens, rounds=0))
    assert len(table.rows) == 2


def test_a_setting_that_does_not_go_is_a_row_with_its_problem(unprepared: Workbench, tmp_path: Path) -> None:
    file = tmp_path / "sweep.jsonl"
    needs_data = Recipe(sparsity=0.5)
    rows = swept(unprepared, file, [needs_data, GRID[0]])
    assert "calibration" in rows[0]["problem"] and rows[1]["quality"] and len(rows_of(file)) == 2


def test_a_search_resumed_is_the_search_that_was_cut(unprepared: Workbench, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    space = [Recipe(bits=b, quant="rtn", head_bits=h, group=g) for b in (8, 4, 2) for h in (8, 4) for g in ("64", "32")]
    file = tmp_path / "search.jsonl"
    whole = figures(swept(unprepared, file, space, search=7))
    assert len({key for key, *_ in whole}) == 7
    content = file.read_bytes()
    file.write_bytes(content[: 2 * len(content) // 3])
    assert figures(swept(unprepared, file, space, search=7)) == whole
    assert len(swept(unprepared, tmp_path / "all.jsonl", space, search=99)) == len(space)


def test_a_search_without_optuna_is_one_sentence(
    unprepared: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="needs Optuna"):
        swept(unprepared, tmp_path / "x", GRID, search=2)


def test_the_command_survives_a_kill(folders: dict[str, Path], tmp_path: Path) -> None:
    file, table = tmp_path / "sweep.jsonl", tmp_path / "sweep.csv"
    words = ["sweep", "--model", str(folders["llama"]), "--out", str(file), "--csv", str(table), "--quant", "rtn"]
    words += ["--tokens", "20", "--rounds", "1", "--bits", "8", "6", "5", "4", "3", "2", "--head-bits", "8", "4"]
    home = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "explorer", *words],
        env=os.environ | {"PYTHONPATH": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and not (file.exists() and file.stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    before = Table(file).rows
    assert before and main(words) == 0
    rows = rows_of(file)
    assert len({row["key"] for row in rows}) == len(rows) == 12 and rows[: len(before)] == list(before.values())
    assert len(table.read_text().splitlines()) == 13
