"""What a file says, against what our reading of files makes of it (test_gguf_file has every family whole)."""

from collections.abc import Callable

import pytest

from explorer.formats.gguf_settings import settings
from explorer.model.opening import Loaded
from tests.model import ggufs


@pytest.mark.parametrize("family", sorted(ggufs.CONFIGS))
def test_values_are_those_of_llama_cpp_s_converter(family: str) -> None:
    """`ggufs.says` was written for the reading, by the converter's rules."""
    config = ggufs.tiny(family).config
    found, right = dict(settings(config).values), ggufs.says(family, config)
    if not hasattr(config, "max_position_embeddings"):
        found.pop("context_length"), right.pop("context_length")
    for key, value in right.items():
        if key != "rope.scaling.type" or value != "none" or family == "nemotron":
            assert found[key] == pytest.approx(value) if isinstance(value, float) else found[key] == value, key
    extra = {
        key for key in found.keys() - right.keys() if not key.startswith(("rope.", "attention.sliding", "vocab_size"))
    }
    assert extra <= {"attention.key_length", "attention.value_length", "use_parallel_residual"}, extra


def test_windows_that_lie_otherwise_are_listed(tiny_of: Callable[..., Loaded]) -> None:
    kinds = ["sliding_attention", "full_attention", "full_attention", *["sliding_attention"] * 3]
    said = settings(ggufs.tiny("gemma3", layer_types=kinds).config).values
    assert said["attention.sliding_window_pattern"] == [kind == "sliding_attention" for kind in kinds]
    assert "attention.sliding_window_pattern" not in settings(ggufs.tiny("gemma3").config).values


def test_a_window_that_llama_cpp_ignores_is_said() -> None:
    assert "last 40" in settings(ggufs.tiny("phi3", sliding_window=40).config).notes[0]
    assert not settings(ggufs.tiny("phi3", sliding_window=None).config).notes
