"""A folder that opens again with the same logits; whole or not at all."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

import explorer
from explorer.bench.speed import every_recipe
from explorer.layers.dense import replace_linear_layers
from explorer.measure.size import stored_bytes
from explorer.model import exporting, opening, writing
from explorer.model.compressing import build, compress, settle
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.model.plan import NOTHING
from explorer.model.preflight import ModelRejected
from explorer.values.recipe import Recipe

METRICS = {
    "size": {"file_bytes": 1234567, "compression_ratio": 3.5, "parameters": 1000},
    "quality": {"kl": 0.0123, "tokens": 99, "perplexity": 8.0, "perplexity_original": 7.0},
}


def written(loaded: Loaded, recipe: Recipe, folder: Path) -> Path:
    model = compress(loaded.model, recipe, Facts())
    about = (recipe, NOTHING, "someone/base")
    assert exporting.write(model, about, loaded.tokenizer, METRICS, folder) == stored_bytes(model)
    return folder


@pytest.fixture
def folder(llama: Loaded, tmp_path: Path) -> Path:
    return written(llama, Recipe(bits=4, sparsity=0.5), tmp_path / "small")


@torch.inference_mode()
def logits(model: nn.Module, ids: Tensor) -> Tensor:
    return model(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize("recipe", [Recipe(), *list(every_recipe())[::8]], ids=Recipe.to_query)
def test_an_export_opens_again_with_the_same_logits(
    any_model: Loaded,
    recipe: Recipe,
    tmp_path: Path,
    ids: Tensor,
) -> None:
    model, tokenizer, found = exporting.read(written(any_model, recipe, tmp_path / "out"))
    assert found == recipe
    assert torch.equal(logits(model, ids), logits(settle(compress(any_model.model, recipe, Facts())), ids))
    assert tokenizer("the cat").input_ids == any_model.tokenizer("the cat").input_ids
    assert not any(parameter.requires_grad for parameter in model.parameters()) and not model.training


def test_every_method_opens_again_with_the_same_logits(
    any_model: Loaded, facts_of: Callable[[nn.Module], Facts], everything: list[Recipe], tmp_path: Path, ids: Tensor
) -> None:
    """With what a budget allotted, with masks, scales, residuals, and fewer blocks, channels and heads."""
    chosen = [recipe for recipe in everything if not recipe.heads or any_model.model.config.model_type == "llama"]
    for place, recipe in enumerate(chosen[::2] if any_model.model.dtype == torch.bfloat16 else chosen[1::4]):
        steps = build(any_model.model, recipe, facts_of(any_model.model))
        built = None
        while built is None:
            try:
                next(steps)
            except StopIteration as end:
                built = end.value
        folder = tmp_path / f"out{place}"
        exporting.write(built.model, (recipe, built.allotted, "b"), any_model.tokenizer, METRICS, folder)
        model, _, found = exporting.read(folder)
        assert found == recipe and torch.equal(logits(model, ids), logits(settle(built.model), ids)), recipe


@pytest.mark.parametrize("cut", [{"depth": 0.5}, {"width": 0.25}, {"width": 0.25, "width_by": "flap"}, {"heads": 0.5}])
def test_what_only_lost_structure_opens_in_plain_transformers(
    any_model: Loaded, facts_of: Callable[[nn.Module], Facts], cut: dict[str, float], tmp_path: Path, ids: Tensor
) -> None:
    if "heads" in cut and any_model.model.config.model_type != "llama":
        pytest.skip("no separate query, key and value")
    recipe = Recipe(**cut)  # type: ignore[arg-type]
    model = compress(any_model.model, recipe, facts_of(any_model.model))
    exporting.write(model, (recipe, NOTHING, "b"), any_model.tokenizer, METRICS, tmp_path / "out")
    plain, told = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(told.values()), told
    assert torch.equal(logits(replace_linear_layers(plain.eval()), ids), logits(model, ids))
    assert not torch.equal(logits(model, ids), logits(any_model.model, ids)) or len(any_model.model.state_dict()) < 20


def test_the_bytes_in_the_file_are_those_that_were_told(llama: Loaded, folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    model = compress(llama.model, Recipe(bits=4, sparsity=0.5), Facts())
    assert sum(tensor.nbytes for tensor in tensors.values()) == stored_bytes(model)


def test_the_folder_tells_what_it_is(folder: Path) -> None:
    about = json.loads((folder / "recipe.json").read_text())
    assert about["base_model"] == "someone/base"
    assert Recipe.from_dict(about["recipe"]) == Recipe(bits=4, sparsity=0.5)
    assert json.loads((folder / "metrics.json").read_text()) == METRICS
    card = (folder / "README.md").read_text()
    for words in ("base_model: someone/base", "50 % zeros", "4 bits", "1.2 MB", "0.0123"):
        assert words in card
    assert exporting.is_export(folder) and not exporting.is_export(folder.parent)


def test_a_tensor_that_is_not_what_was_written_is_named(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "packed" in name)
    save_file(tensors | {name: tensors[name] ^ 1}, folder / "model.safetensors", metadata={"format": "pt"})
    assert f"{name} is not what was written" in rejected(folder)


def test_an_export_of_before_has_no_checksums_and_opens(folder: Path) -> None:
    (folder / "checksums.json").unlink()
    assert exporting.read(folder)[2] == Recipe(bits=4, sparsity=0.5)


@pytest.mark.parametrize("text", ["{", "[1]", "{}"])
def test_checksums_that_cannot_be_used_are_refused(folder: Path, text: str) -> None:
    (folder / "checksums.json").write_text(text)
    assert folder.name in rejected(folder)


def test_three_lines_of_python_open_it(folder: Path, ids: Tensor) -> None:
    model, tokenizer, recipe = explorer.load(folder)
    assert recipe == Recipe(bits=4, sparsity=0.5) and len(tokenizer) == 300
    assert torch.equal(logits(model, ids), logits(exporting.read(folder)[0], ids))


def test_others_may_read_what_was_written(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o755
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_nothing_is_ever_overwritten(llama: Loaded, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="exists already"):
        written(llama, Recipe(bits=2), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("file", ["model.safetensors", "recipe.json", "README.md"])
def test_a_failure_leaves_nothing_behind(
    llama: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    name = {"model.safetensors": "save_tensors", "recipe.json": "_write_json", "README.md": "card"}[file]
    monkeypatch.setattr(exporting, name, full)
    with pytest.raises(OSError, match="no space"):
        written(llama, Recipe(bits=4), tmp_path / "here" / "out")
    assert list((tmp_path / "here").iterdir()) == []


def test_what_does_not_read_back_the_same_is_not_kept(
    llama: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flipped(file: Path) -> dict[str, Tensor]:
        tensors = load_file(file)
        name = next(iter(tensors))
        return tensors | {name: tensors[name] + 1}

    monkeypatch.setattr(exporting, "load_file", flipped)
    with pytest.raises(ModelRejected):
        written(llama, Recipe(), tmp_path / "here" / "out")
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize("name", ["Größe", "a b", "大きさ", "x" * 200, ".hidden", "-rf"])
def test_any_name_that_the_file_system_takes_is_one(llama: Loaded, tmp_path: Path, name: str) -> None:
    written(llama, Recipe(bits=4), tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == [name] and exporting.is_export(tmp_path / name)


@pytest.mark.parametrize("name", ["", "a\nb", "..", "x" * 300])
def test_names_that_cannot_be_are_refused(llama: Loaded, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="folder's name|exists already"):
        written(llama, Recipe(), tmp_path / "home" / name if name else tmp_path)
    assert not (tmp_path / "home").exists()


def test_a_full_disk_is_seen_before_anything_is_written(
    llama: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(ValueError, match="disk"):
        written(llama, Recipe(), tmp_path / "here" / "out")
    assert list((tmp_path / "here").iterdir()) == []


def rejected(folder: Path) -> str:
    with pytest.raises(ModelRejected) as found:
        exporting.read(folder)
    return str(found.value)


ABOUT = {"format": "size-explorer", "version": 1, "base_model": "b"}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "null",
        "\udc80",
        json.dumps(ABOUT),
        json.dumps({**ABOUT, "recipe": None}),
        json.dumps({**ABOUT, "recipe": {"bits": 9}}),
        json.dumps({**ABOUT, "recipe": {"bits": [4]}}),
        json.dumps({**ABOUT, "recipe": {"colour": 1}}),
        json.dumps({**ABOUT, "recipe": {"bits": 2}}),
        json.dumps({**ABOUT, "recipe": {"keep": 0.5}}),
        json.dumps({**ABOUT, "version": 2, "recipe": {}}),
        json.dumps({**ABOUT, "format": "other", "recipe": {}}),
        pytest.param(json.dumps({**ABOUT, "recipe": {"keep": 10**400}})),
        pytest.param("[" * 100_000),
        json.dumps({**ABOUT, "recipe": {"bits": 4, "sparsity": 0.5, "quant": "nf5"}}),
        json.dumps({**ABOUT, "recipe": {"bits": 4, "sparsity": 0.5, "layers": ["mlp=group:inf"]}}),
        json.dumps({**ABOUT, "recipe": {"bits": 4, "sparsity": 0.5, "protect": [[1]]}}),
        json.dumps({**ABOUT, "recipe": {"bits": 4, "sparsity": 0.5}, "allotted": {"kept": {"a": -1}}}),
        json.dumps({**ABOUT, "recipe": {"bits": 4, "sparsity": 0.5}, "allotted": [1]}),
        json.dumps({**ABOUT, "recipe": {"bits": 4, "sparsity": 0.5}, "allotted": {"rank": [1]}}),
        json.dumps({**ABOUT, "recipe": {"bits": 4, "sparsity": 0.5, "scope": "layer"}}),
        json.dumps({**ABOUT, "recipe": {"keep": 0.5}, "allotted": {"rank": {"model.layers.0.mlp.up_proj": 2**39}}}),
    ],
    ids=range(23),
)
def test_a_recipe_that_does_not_fit_is_refused_in_one_sentence(folder: Path, text: str) -> None:
    (folder / "recipe.json").write_text(text, errors="surrogateescape")
    words = rejected(folder)
    assert len(words) > 20 and len(words.splitlines()) == 1 and folder.name in words


@pytest.mark.parametrize("damage", ["missing", "shape", pytest.param("dtype"), "extra"])
@pytest.mark.parametrize("kind", ["scale", "norm", "embed_tokens"])
def test_tensors_that_do_not_fit_are_refused_in_one_sentence(folder: Path, damage: str, kind: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if kind in name)
    if damage == "missing":
        del tensors[name]
    elif damage == "shape":
        tensors[name] = tensors[name][:-1].clone()
    elif damage == "dtype":
        tensors[name] = tensors[name].to(torch.float64 if tensors[name].is_floating_point() else torch.int64)
    else:
        tensors["extra"] = torch.zeros(3)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "do not fit its recipe" in rejected(folder)


def test_an_export_without_its_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert len(rejected(folder)) > 20


def test_a_cut_export_is_refused(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    assert len(rejected(folder)) > 20


@pytest.mark.parametrize("recipe", [Recipe(bits=8), Recipe(depth=0.5)], ids=Recipe.words)
def test_end_tokens_travel(copy: Path, tmp_path: Path, recipe: Recipe) -> None:
    settings = json.loads((copy / "generation_config.json").read_text()) | {"eos_token_id": [1, 7], "temperature": 0.3}
    (copy / "generation_config.json").write_text(json.dumps(settings))
    loaded = opening.load(str(copy))
    model = compress(loaded.model, recipe, Facts())
    exporting.write(model, (recipe, NOTHING, "x"), loaded.tokenizer, {}, tmp_path / "out")
    again = exporting.read(tmp_path / "out")[0]
    assert writing._end_tokens(again, loaded.tokenizer) == {1, 7}
    assert again.generation_config.temperature == 0.3  # type: ignore[union-attr, operator]
    if recipe.structural:
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
        assert theirs.generation_config.eos_token_id == [1, 7]


@pytest.mark.parametrize(
    "values", [{"hidden_act": "evil"}, {"rope_parameters": 7}, {"model_type": "evil"}, {"quantization_config": {}}]
)
def test_a_config_that_cannot_be_used_is_refused_in_one_sentence(folder: Path, values: dict[str, object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))
    words = rejected(folder)
    assert len(words) > 20 and len(words.splitlines()) == 1


@pytest.mark.parametrize("kind", ["scale", "norm"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_no_numbers_are_refused_by_name(folder: Path, kind: str, value: float) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if kind in name)
    tensors[name].view(-1)[0] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert name in rejected(folder)
