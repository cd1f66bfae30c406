"""A .gguf file, written here and decoded alone, once."""

import json
import os
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file

from explorer.model import conversion, loaders, opening
from explorer.model.places import locate
from explorer.values.progress import told
from tests.model.test_opening import UP, rejected


@pytest.fixture
def tiny(folders: dict[str, Path], tmp_path: Path) -> Path:
    return write_gguf(folders["llama32"], tmp_path / "tiny.gguf")


def write_gguf(folder: Path, file: Path, architecture: str = "llama") -> Path:
    """A Llama as a .gguf file, values as they are."""
    config, core = (json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer.json"))
    vocabulary = core["model"]["vocab"]
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(vocabulary, key=vocabulary.get))
    writer.add_token_types([3, 3] + [1] * (len(vocabulary) - 2))
    writer.add_token_merges([" ".join(pair) for pair in core["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, tensor in load_file(folder / "model.safetensors").items():
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_a_gguf_file_is_decoded_once_in_one_step(tiny: Path, folders: dict[str, Path]) -> None:
    steps: list[object] = []

    def step(work: Any) -> Any:
        steps.append(work)
        return work()

    for _ in range(2):
        place = told(locate(str(tiny), step), lambda _: None)
    assert len(steps) == 1 and place.source == "the file tiny.gguf" and place.note
    loaded = opening.open_place(place)
    assert loaded.tokenizer.decode(loaded.tokenizer("the cat").input_ids) == "the cat"
    assert torch.equal(
        loaded.model.state_dict()[UP], load_file(folders["llama32"] / "model.safetensors")[UP].bfloat16()
    )


@pytest.mark.parametrize("name", ["adapter_config.json", "tokenizer_config.json", "config.json", "tokenizer.json"])
def test_nothing_beside_a_gguf_file_is_read(tiny: Path, name: str) -> None:
    evil = {"auto_map": {"AutoModelForCausalLM": "m.M", "AutoTokenizer": ["m.T", None]}, "eos_token": "cat"}
    (tiny.parent / name).write_text(json.dumps(evil | {"base_model_name_or_path": "someone/other"}))
    (tiny.parent / "m.py").write_text("raise SystemExit")
    assert opening.load(str(tiny)).tokenizer.eos_token == "</s>"


def test_a_gguf_file_runs_no_code_and_asks_nobody(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    for loader in (loaders.AutoConfig, loaders.AutoModelForCausalLM, loaders.PreTrainedTokenizerFast):

        def noted(folder: Any, real: Any = loader.from_pretrained, **options: Any) -> Any:
            asked.append({"files": os.listdir(folder), **options})
            return real(folder, **options)

        monkeypatch.setattr(loader, "from_pretrained", noted)
    conversion._convert(tiny, tiny.parent / "decoded")
    assert [each["files"] for each in asked] == [["model.gguf"]] * 3
    assert all(each["trust_remote_code"] is False and each["local_files_only"] is True for each in asked)


def test_a_gguf_file_that_transformers_cannot_open_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    martian = write_gguf(folders["llama32"], tmp_path / "martian.gguf", "martian")
    assert "martian.gguf cannot be opened" in rejected(martian)


def test_a_gguf_file_opens_where_the_system_cannot_link(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(conversion.os, "link", refuse)
    monkeypatch.setattr(conversion.os, "symlink", refuse)
    conversion._link(tiny, tiny.parent / "copy.gguf")
    assert (tiny.parent / "copy.gguf").read_bytes() == tiny.read_bytes()
