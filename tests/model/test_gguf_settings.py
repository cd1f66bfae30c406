"""What a file says of its model: many families, each number format, and each value that transformers leaves out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from explorer.model import conversion, gguf_settings
from tests.model import ggufs

KINDS = [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.MXFP4]
Open = Callable[..., tuple[Any, Any]]


@pytest.fixture
def opened(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Open:
    """(plain transformers with what the folder says and the file holds, plain transformers with what was kept)."""

    def opened(family: str, model: Any, **options: Any) -> tuple[Any, Any]:
        state = ggufs.write(tmp_path / "model.gguf", family, model, tokenizer, **options)
        conversion._convert(tmp_path / "model.gguf", tmp_path / "kept")
        plain = AutoModelForCausalLM.from_config(model.config, dtype=torch.bfloat16).eval()
        wrong = plain.load_state_dict(state, strict=False)
        assert not wrong.unexpected_keys and set(wrong.missing_keys) <= {"lm_head.weight"}
        plain.tie_weights()
        return plain, AutoModelForCausalLM.from_pretrained(tmp_path / "kept").eval()

    return opened


def difference(plain: Any, kept: Any) -> float:
    return float((ggufs.logits(plain).float() - ggufs.logits(kept).float()).abs().max())


@pytest.mark.parametrize("family", sorted(ggufs.CONFIGS))
def test_an_opened_file_is_what_it_holds_whatever_its_family(opened: Open, family: str) -> None:
    assert difference(*opened(family, ggufs.tiny(family), kind=Kind.Q8_0)) == 0


def test_every_family_that_opens_is_compared_here() -> None:
    assert ggufs.CONFIGS.keys() == gguf_settings.FAMILIES


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen3moe"])
def test_an_opened_file_is_what_it_holds_in_each_number_format(opened: Open, family: str, kind: Kind) -> None:
    assert difference(*opened(family, ggufs.tiny(family), kind=kind)) == 0
