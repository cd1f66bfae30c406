"""Models that took long, kept on disk: the same again, or nothing."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from explorer.measure.size import stored_bytes
from explorer.model import kept
from explorer.model.compressing import Built, build, reshape, settle
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.recipe import Recipe

FactsOf = Callable[[nn.Module], Facts]
RECIPES = [
    Recipe(bits=4, quant="gptq"),
    Recipe(bits=3, quant="awq", residual_rank=8),
    Recipe(sparsity=0.5, prune="sparsegpt", scope="global", bits=4, head_bits=4),
    Recipe(keep=0.6, allocate="global", bits=4, quant="hqq"),
    Recipe(depth=0.5, width=0.25, bits=4, quant="gptq", protect=("attention",)),
    Recipe(width=0.25, width_by="flap", bits=4, quant="gptq"),
]


def made(base: nn.Module, recipe: Recipe, facts: Facts) -> Built:
    steps = build(base, recipe, facts)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def smaller(base: nn.Module, recipe: Recipe, facts: Facts) -> nn.Module:
    return reshape(base, recipe, facts)[0]


@pytest.mark.parametrize("recipe", RECIPES, ids=Recipe.to_query)
def test_what_was_kept_is_what_was_built(any_model: Loaded, facts_of: FactsOf, recipe: Recipe, tmp_path: Path) -> None:
    base, facts, file = any_model.model, facts_of(any_model.model), tmp_path / "deep" / "a.safetensors"
    built = made(base, recipe, facts)
    kept.save(built, smaller(base, recipe, facts), file)
    found = kept.load(smaller(base, recipe, facts), recipe, file)
    assert found is not None and found.allotted == built.allotted and found.note == built.note
    one, other = found.model.state_dict(), built.model.state_dict()
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert stored_bytes(found.model) == stored_bytes(built.model)
    ids = torch.arange(2, 30)[None]
    with torch.inference_mode():
        assert torch.equal(settle(found.model)(ids).logits, settle(built.model)(ids).logits)
    assert [path.name for path in file.parent.iterdir()] == ["a.safetensors"]


def test_only_what_is_new_is_written_and_all_else_is_shared(llama: Loaded, facts_of: FactsOf, tmp_path: Path) -> None:
    recipe, file = Recipe(bits=4, quant="gptq"), tmp_path / "a.safetensors"
    kept.save(made(llama.model, recipe, facts_of(llama.model)), llama.model, file)
    found = kept.load(llama.model, recipe, file)
    assert found and not any("norm" in name or "embed" in name for name in load_file(file))
    assert found.model.get_input_embeddings().weight is llama.model.get_input_embeddings().weight


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "missing", "extra", "shape", "dtype", "of another recipe"])
def test_a_damaged_file_counts_as_absent(llama: Loaded, facts_of: FactsOf, tmp_path: Path, damage: str) -> None:
    recipe, file = Recipe(bits=4, quant="gptq", residual_rank=8), tmp_path / "a.safetensors"
    built = made(llama.model, recipe, facts_of(llama.model))
    kept.save(built, llama.model, file)
    whole, tensors = file.read_bytes(), load_file(file)
    about = {"kept": "{}", "rank": "{}"}
    name = next(iter(tensors))
    changed: dict[str, dict[str, Tensor]] = {
        "missing": {key: tensor for key, tensor in tensors.items() if key != name},
        "extra": tensors | {"extra": torch.zeros(2)},
        "shape": tensors | {name: tensors[name][:-1].clone()},
        "dtype": tensors | {name: tensors[name].double()},
    }
    if damage in changed:
        save_file(changed[damage], file, metadata=about)
    elif damage == "of another recipe":
        recipe = Recipe(bits=3, quant="gptq")
    else:
        file.write_bytes({"cut": whole[: len(whole) // 2], "noise": b"\xff" * 100, "empty": b""}[damage])
    assert kept.load(llama.model, recipe, file) is None and not file.exists()
    assert kept.load(llama.model, recipe, file) is None


def test_each_recipe_and_level_has_its_file(tmp_path: Path) -> None:
    files = {kept.file_of(tmp_path, tokens, recipe) for tokens in (0, 2048, 12288) for recipe in RECIPES}
    assert len(files) == 3 * len(RECIPES) and all(file.parent == tmp_path for file in files)
    assert kept.file_of(tmp_path, 5, Recipe(bits=4)) == kept.file_of(tmp_path, 5, Recipe(bits=4, prune="ria"))


def test_the_oldest_go_when_there_are_too_many(
    llama: Loaded, facts_of: FactsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = made(llama.model, Recipe(bits=4), facts_of(llama.model))
    files = [tmp_path / f"{name}.safetensors" for name in "abcd"]
    for age, file in enumerate(files[:3]):
        kept.save(built, llama.model, file)
        os.utime(file, (1000 + age, 1000 + age))
    kept.load(llama.model, Recipe(bits=4), files[0])  # used last
    monkeypatch.setattr(kept, "LARGEST_TOTAL", 2.5 * files[0].stat().st_size)
    kept.save(built, llama.model, files[3])
    assert {path.name for path in tmp_path.iterdir()} == {"a.safetensors", "d.safetensors"}


def test_saving_that_fails_leaves_nothing_behind(
    llama: Loaded, facts_of: FactsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object, file: Path, **__: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("explorer.model.disk.save_file", full)
    with pytest.raises(OSError, match="no space"):
        kept.save(made(llama.model, Recipe(bits=4), facts_of(llama.model)), llama.model, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []
