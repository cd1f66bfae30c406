"""A folder opens ready to run, or is refused in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from explorer.model import opening
from explorer.model.preflight import ModelRejected


def rejected(folder: Path | str) -> str:
    """The sentence with which a model is refused."""
    with pytest.raises(ModelRejected) as found:
        opening.load(str(folder))
    words = str(found.value)
    assert len(words) > 20 and len(words.splitlines()) == 1
    return words


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    kept = load_file(folder / "model.safetensors") | tensors
    save_file({k: v for k, v in kept.items() if v is not None}, folder / "model.safetensors", metadata={"format": "pt"})


def configure(folder: Path, file: str = "config.json", **values: Any) -> None:
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(config | values))


NORM, UP = "model.norm.weight", "model.layers.0.mlp.up_proj.weight"


def test_a_folder_opens_ready_to_run(folders: dict[str, Path]) -> None:
    loaded = opening.load(str(folders["llama"]))
    assert loaded.source == "the folder llama" and loaded.folder == folders["llama"]
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.tokenizer.decode(loaded.tokenizer("the cat").input_ids) == "the cat"


def test_the_weights_are_those_in_the_file(folders: dict[str, Path]) -> None:
    state = opening.load(str(folders["llama"])).model.state_dict()
    for name, tensor in load_file(folders["llama"] / "model.safetensors").items():
        assert torch.equal(state[name], tensor)


def test_conv1d_becomes_linear_and_says_the_same(folders: dict[str, Path], ids: torch.Tensor) -> None:
    ours = opening.load(str(folders["gpt2"])).model
    theirs = AutoModelForCausalLM.from_pretrained(folders["gpt2"]).eval()
    assert any(isinstance(m, Conv1D) for m in theirs.modules()) and not any(
        isinstance(m, Conv1D) for m in ours.modules()
    )
    with torch.inference_mode():
        assert torch.allclose(ours(input_ids=ids).logits, theirs(input_ids=ids).logits, atol=1e-4)


def test_a_structure_has_the_shapes_and_no_memory(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        bones, model = opening.structure(folder), opening.load(str(folder)).model
        assert all(parameter.is_meta for parameter in bones.parameters())
        assert {n: p.shape for n, p in bones.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}


def test_a_missing_tensor_is_refused_by_name(copy: Path) -> None:
    change(copy, **{UP: None})
    assert UP in rejected(copy)


def test_an_unknown_tensor_is_refused_by_name(copy: Path) -> None:
    change(copy, surplus=torch.zeros(2))
    assert "surplus" in rejected(copy)


def test_a_misshapen_tensor_is_refused_by_name(copy: Path) -> None:
    change(copy, **{UP: torch.zeros(127, 64)})
    assert UP in rejected(copy)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_weight_that_is_no_number_is_refused_by_name(copy: Path, value: float) -> None:
    weight = load_file(copy / "model.safetensors")[NORM]
    weight[3] = value
    change(copy, **{NORM: weight})
    assert NORM in rejected(copy)


def test_pickles_are_never_opened(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/size-explorer-was-here'\ntR.")
    assert "pickle" in rejected(copy)
    assert not Path("/tmp/size-explorer-was-here").exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_the_model_is_never_run(copy: Path, file: str) -> None:
    configure(copy, file, auto_map={"AutoModelForCausalLM": "m.M", "AutoTokenizer": ["m.T", None]})
    rejected(copy)


def test_a_python_file_beside_the_weights_is_refused(copy: Path) -> None:
    (copy / "modeling.py").write_text("raise SystemExit")
    assert "modeling.py" in rejected(copy)


def test_an_architecture_that_nobody_knows_is_refused_by_its_name(copy: Path) -> None:
    configure(copy, model_type="martian", architectures=["MartianForCausalLM"])
    assert "martian" in rejected(copy)


def test_a_broken_tokenizer_is_refused(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{}")
    rejected(copy)


def test_a_folder_without_a_config_is_refused(copy: Path) -> None:
    (copy / "config.json").unlink()
    assert "config.json" in rejected(copy)


def test_weights_lie_where_products_read_them_fastest(folders: dict[str, Path]) -> None:
    """As views of the file they began 16 bytes off a cache line, and the original lost 5 % to any copy of itself."""
    assert all(p.data_ptr() % 64 == 0 for p in opening.load(str(folders["llama"])).model.parameters())


def test_too_little_memory_is_seen_before_anything_is_opened(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.model.memory.free_bytes", lambda: 10_000)
    monkeypatch.setattr(opening, "_open", lambda *_: pytest.fail("it was opened"))
    assert "memory" in rejected(copy)
