"""What a file holds beside the model is left out by name; a head of its own stays one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from explorer.model import exporting, opening
from explorer.model.plan import NOTHING
from explorer.values.recipe import Recipe
from tests.model.test_opening import change, configure, rejected

ONE = torch.ones(3)
EXTRA: list[tuple[dict[str, Tensor], str]] = [
    ({"model.layers.0.self_attn.rotary_emb.inv_freq": ONE}, "tables of rotations (model"),
    ({"mtp.norm.weight": ONE, "model.mtp.fc.weight": ONE + 1}, "guessing several tokens (2, such as model.mtp"),
    (
        {"model.layers.2.eh_proj.weight": ONE, "model.layers.2.mlp.up_proj.weight": ONE + 1},
        "guessing several tokens (2",
    ),
    ({"v_head.summary.weight": torch.ones(1, 64)}, "a judge from training (v_head"),
]


@pytest.mark.parametrize("tensors, words", EXTRA, ids=[words for _, words in EXTRA])
def test_what_no_text_is_written_with_is_left_out_by_name(
    copy: Path, ids: Tensor, tensors: dict[str, Tensor], words: str
) -> None:
    plain = opening.load(str(copy)).model
    change(copy, **tensors)
    loaded = opening.load(str(copy))
    assert words in loaded.note and min(tensors) in loaded.note and "float32" not in loaded.note
    assert loaded.model.state_dict().keys() == plain.state_dict().keys()
    with torch.inference_mode():
        assert torch.equal(loaded.model(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_masks_of_attention_are_left_out(folders: dict[str, Path], copy: Path) -> None:
    mask = torch.ones(1, 1, 512, 512, dtype=torch.uint8)
    change(copy, **{"model.layers.0.attn.bias": mask, "model.layers.0.attn.masked_bias": torch.tensor(-1e9)})
    assert "masks of attention (2" in opening.load(str(copy)).note


@pytest.mark.parametrize(
    "name",
    ["model.layers.0.attn.bias", "model.layers.2.mlp.up_proj.weight", "score.weight", "model.layers.1.self_attn.inv"],
)
def test_anything_else_is_refused(copy: Path, name: str) -> None:
    change(copy, **{name: torch.ones(64)})
    assert name in rejected(copy)


def test_layers_behind_the_last_are_left_out_where_the_config_speaks_of_them(copy: Path) -> None:
    change(copy, **{"model.layers.2.mlp.up_proj.weight": ONE})
    configure(copy, num_nextn_predict_layers=1)
    assert "model.layers.2.mlp.up_proj.weight" in opening.load(str(copy)).note


def test_a_config_with_too_few_layers_does_not_cut_a_model_short(copy: Path) -> None:
    configure(copy, num_hidden_layers=1, layer_types=None)
    assert "model.layers.1" in rejected(copy)


def heads(copy: Path) -> tuple[Any, Any]:
    model: Any = opening.load(str(copy)).model
    return model.get_input_embeddings().weight, model.get_output_embeddings().weight


def test_a_head_that_repeats_the_embedding_is_the_embedding(copy: Path) -> None:
    change(copy, **{"lm_head.weight": load_file(copy / "model.safetensors")["model.embed_tokens.weight"].clone()})
    embedding, head = heads(copy)
    assert embedding is head and opening.load(str(copy)).note == ""


def test_another_head_in_the_file_wins_over_the_config(copy: Path, tmp_path: Path, ids: Tensor) -> None:
    own = torch.randn(300, 64).bfloat16()
    change(copy, **{"lm_head.weight": own})
    loaded = opening.load(str(copy))
    assert torch.equal(heads(copy)[1], own) and "matrix of its own" in loaded.note
    exporting.write(loaded.model, (Recipe(), NOTHING, "x"), loaded.tokenizer, {}, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.bfloat16)
    with torch.inference_mode():
        expected = loaded.model(input_ids=ids).logits
        assert torch.equal(exporting.read(tmp_path / "out")[0](input_ids=ids).logits, expected)
        assert torch.equal(theirs(input_ids=ids).logits, expected)


def test_a_head_that_is_absent_is_refused(copy: Path) -> None:
    configure(copy, tie_word_embeddings=False)
    assert "lm_head" in rejected(copy)
