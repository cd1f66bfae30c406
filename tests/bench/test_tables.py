"""The document's tables: from the figures of a run, into their place, all else untouched."""

from typing import Any

import pytest

from explorer.bench import tables


def reading(value: float) -> dict[str, float]:
    return {"median": value, "low": value / 2, "high": value * 2, "n": 5}


@pytest.fixture
def found() -> dict[str, Any]:
    turn = {"ms_per_token": reading(8), "original_ms_per_token": reading(29), "transformers_ms_per_token": reading(42)}
    return {
        "machine": {"processor": "a chip", "threads": 2, "torch": "2.13"},
        "model": "a model",
        "prepare_seconds": 55.0,
        "release_to_weights_seconds": {name: reading(0.25) for name in tables.RELEASES},
        "best_level_seconds": {"gptq": 41.0, "sparsegpt": 22.0},
        "decode": {"4 bits": {**turn, "times_faster": 3.7}},
        "quality": [
            {"recipe": "8 bits (gptq)", "megabytes": 140.9, "kl": 0.0008},
            {"recipe": "50 % zeros", "megabytes": 176.1, "kl": 0.777},
        ],
        "peers": [{"peer": "llama.cpp Q4_1", "megabytes": 98.0, "kl": 0.1, "ms_per_token": reading(8.6)}],
        "bytes": {"predicted_equals_stored_equals_exported": 94, "recipes": 94},
        "empty_recipe_identical": True,
        "page": None,
    }


def test_figures_stand_between_their_marks_and_nothing_else_changes(found: dict[str, Any]) -> None:
    document = f"# Title\n\n{tables.MARKS[0]}\nold\n{tables.MARKS[1]}\n\nMore.\n"
    new = tables.insert(document, found)
    assert new.startswith("# Title\n\n") and new.endswith("\n\nMore.\n") and "old" not in new
    for cell in (
        "8.0 · 29.0 · 42.0 (3.70×)",
        "94 of 94 recipes",
        "| 8 bits (gptq) | 140.9 | 0.0008 |",
        "0.7770",
        "8.6",
    ):
        assert cell in new, cell
    assert tables.insert(new, found) == new


def test_a_document_without_a_place_is_refused(found: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no place for figures"):
        tables.insert("# Title", found)


def test_what_was_not_measured_is_not_there(found: dict[str, Any]) -> None:
    assert "page load" not in tables.tables(found) and "llama.cpp" not in tables.tables(found | {"peers": None})


def test_a_race_is_a_row_a_file(found: dict[str, Any]) -> None:
    row = {"mix": "Q4_K_M", "maker": "this program", "megabytes": 105.45, "kl": 0.0175, "weights_kl": 0.01293}
    line = "| Q4_K_M | this program | 105.5 | 0.0175 | 0.0129 |"
    assert tables.raced([row]).splitlines()[-1] == line
    assert line in tables.tables(found | {"race": [row]}) and "weights alone" not in tables.tables(found)
