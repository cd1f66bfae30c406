"""The catalogue: counts that follow from dimensions, and names that lead to them."""

import json
from pathlib import Path

import pytest

from explorer.takes import catalogue
from explorer.takes.architecture import parameters
from explorer.takes.catalogue import Entry, entries


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.id)
def test_the_count_follows_from_the_dimensions(entry: Entry) -> None:
    assert parameters(entry.architecture) == pytest.approx(entry.parameters, rel=0.01)
    assert entry.licence and entry.source


def test_it_spans_from_14_million_to_180_billion() -> None:
    counts = [entry.parameters for entry in entries()]
    assert len(counts) >= 40 and counts == sorted(counts)
    assert min(counts) < 2e7 and max(counts) > 1.7e11
    assert len({entry.id for entry in entries()}) == len(counts)


def test_a_name_is_found_by_its_last_part_and_a_config_by_its_path(tmp_path: Path) -> None:
    entry = entries()[3]
    assert catalogue.named(entry.short.upper())[2] == entry
    values = {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
    }
    (tmp_path / "config.json").write_text(json.dumps(values))
    _, found, known = catalogue.named(str(tmp_path))
    assert known is None and parameters(found) == 134_515_008
    with pytest.raises(ValueError, match="neither in the catalogue"):
        catalogue.named("no such model")
