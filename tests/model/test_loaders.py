"""transformers is called so that it runs no code of a folder, reports what does not fit, and says nothing itself."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from explorer.model.loaders import model_of, quiet


def test_code_beside_the_weights_is_not_run(copy: Path) -> None:
    (copy / "evil.py").write_text(f"open({str(copy / 'ran')!r}, 'w')")
    config = json.loads((copy / "config.json").read_text()) | {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}
    (copy / "config.json").write_text(json.dumps(config))
    model, _ = model_of(copy)
    assert type(model).__name__ == "LlamaForCausalLM" and not (copy / "ran").exists()


def test_a_tensor_that_does_not_fit_is_reported(copy: Path) -> None:
    name = "model.norm.weight"
    changed = load_file(copy / "model.safetensors") | {name: torch.zeros(3)}
    save_file(changed, copy / "model.safetensors", metadata={"format": "pt"})
    _, info = model_of(copy)
    assert [key for key, *_ in info["mismatched_keys"]] == [name]


def test_transformers_may_speak_again_afterwards() -> None:
    level = logging.get_verbosity()
    with pytest.raises(OSError), quiet():
        assert logging.get_verbosity() == logging.ERROR and not logging.is_progress_bar_enabled()
        raise OSError
    assert logging.get_verbosity() == level and logging.is_progress_bar_enabled()
