"""Tiny models of many families in folders, and what is made of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from explorer.formats.folders import WEIGHTS, Folder
from explorer.formats.gguf_file import GgufFile, gguf_file
from explorer.formats.leaves import structure_of
from explorer.layers.targets import text_body
from explorer.model import opening
from explorer.model.opening import Loaded
from tests.model import ggufs


@pytest.fixture(scope="session")
def tiny_of(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Callable[..., Loaded]:
    """family and changes of its config → a random model of it, opened."""

    def made(family: str, **more: Any) -> Loaded:
        folder = tmp_path_factory.mktemp("tiny") / family
        ggufs.tiny(family, **more).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return opening.load(str(folder))

    return made


def as_gguf(model: nn.Module, loaded: Loaded, **about: Any) -> GgufFile:
    structure = structure_of(model, loaded.model)
    ends = {"ends": [loaded.tokenizer.eos_token_id]}
    return gguf_file(structure, model.config, loaded.tokenizer, text_body(model), ends | about)


def written_gguf(model: nn.Module, loaded: Loaded, file: Path) -> Path:
    """The .gguf file of an unsettled model, as many bytes as were told."""
    made = as_gguf(model, loaded)
    assert list(made.write(file))[-1] == 1
    assert file.stat().st_size == made.bytes
    return file


def written(made: Folder, model: nn.Module, loaded: Loaded, folder: Path) -> Path:
    folder.mkdir()
    assert list(made.write(folder, model, loaded.tokenizer))[-1] == 1
    assert (folder / WEIGHTS).stat().st_size == made.bytes
    return folder


def opened(folder: Path) -> Any:
    model, told = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, dtype="auto")
    assert not any(told.values()), told
    return model.eval()


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits  # type: ignore[no-any-return]
