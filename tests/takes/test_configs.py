"""Dimensions from a config.json: of any size at once, and nonsense refused in a sentence."""

import time

import pytest

from explorer.takes.architecture import parameters
from explorer.takes.configs import architecture_of_config


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {"model_type": "llama"},
        {"model_type": "llama", "hidden_size": -1},
        {"model_type": 7, "hidden_size": "x"},
        {"model_type": "llama", "hidden_size": 10**30, "num_hidden_layers": 10**30, "vocab_size": 10**30},
        {"text_config": {"text_config": {"text_config": {}}}},
    ],
)
def test_nonsense_in_a_config_is_one_sentence(values: object) -> None:
    with pytest.raises(ValueError) as raised:
        architecture_of_config(values)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


def test_a_config_of_180_billion_is_read_at_once() -> None:
    falcon = {
        "model_type": "falcon",
        "vocab_size": 65024,
        "hidden_size": 14848,
        "num_hidden_layers": 80,
        "num_attention_heads": 232,
        "num_kv_heads": 8,
        "new_decoder_architecture": True,
        "bias": False,
    }
    started = time.perf_counter()
    found = architecture_of_config(falcon)
    assert time.perf_counter() - started < 0.1
    assert parameters(found) == pytest.approx(1.795e11, rel=0.01)
