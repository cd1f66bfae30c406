"""A model runs in the number format of most of its bytes; what lies in another one is converted, and said."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, Ernie4_5_MoeConfig, Ernie4_5_MoeForCausalLM

from explorer.layers.targets import targets
from explorer.measure import size
from explorer.model import exporting, opening
from explorer.model.compressing import build, skeleton
from explorer.model.dtypes import dtype_of
from explorer.model.facts import Facts
from explorer.model.preflight import ModelFiles, ModelRejected, check_folder
from explorer.values.recipe import Recipe
from tests.model.test_opening import NORM, UP, change, rejected


def files_of(**lengths: int) -> ModelFiles:
    return ModelFiles(architecture="llama", tensors={n: (0, length, 1, n) for n, length in lengths.items()})


@pytest.mark.parametrize(
    "lengths, expected",
    [
        ({"BF16": 100, "F32": 40}, torch.bfloat16),
        ({"F16": 100, "F32": 40}, torch.float16),
        ({"F32": 100, "BF16": 40}, torch.float32),
        ({"F64": 100}, torch.float32),
        ({"F8_E4M3": 100, "F32": 40}, torch.bfloat16),
        ({"I64": 100, "F16": 40}, torch.float16),  # positions, masks
    ],
)
def test_the_dtype_is_that_of_most_bytes(lengths: dict[str, int], expected: torch.dtype) -> None:
    assert dtype_of(files_of(**lengths)) == expected


def test_whole_numbers_alone_are_refused() -> None:
    with pytest.raises(ModelRejected, match="whole numbers"):
        dtype_of(files_of(I8=100, U8=20))


def cast(folder: Path, dtype: torch.dtype, *but: str) -> None:
    """All tensors but some in a number format."""
    tensors = load_file(folder / "model.safetensors")
    change(folder, **{name: tensor.to(dtype) for name, tensor in tensors.items() if name not in but})


def test_one_float32_norm_does_not_double_the_original(copy: Path) -> None:
    change(copy, **{NORM: load_file(copy / "model.safetensors")[NORM].float()})
    loaded = opening.load(str(copy))
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.note == "One tensor stored as float32 is used as bfloat16."
    stored = check_folder(copy).tensor_bytes
    assert abs(size.stored_bytes(loaded.model) - stored) <= 128


def test_every_kind_of_conversion_is_said_with_its_size(copy: Path) -> None:
    norm = load_file(copy / "model.safetensors")[NORM]
    first = "model.layers.0.input_layernorm.weight"
    change(copy, **{NORM: norm.float(), first: norm.double(), UP: torch.ones(128, 64).to(torch.float8_e4m3fn)})
    note = opening.load(str(copy)).note
    assert "One tensor stored as float64 is used as bfloat16." in note
    assert "One tensor stored as float8 (E4M3) is used as bfloat16." in note
    second = "model.layers.1.input_layernorm.weight"
    change(copy, **{second: norm.float()})
    assert "2 tensors of 0.5 kB stored as float32 are used as bfloat16." in opening.load(str(copy)).note


def test_a_plain_model_has_no_note(folders: dict[str, Path]) -> None:
    assert not any(opening.load(str(folder)).note for folder in folders.values())


def test_whole_numbers_are_no_weights(copy: Path) -> None:
    change(copy, **{UP: torch.ones(128, 64, dtype=torch.int8)})
    assert "I8" in rejected(copy) and UP in rejected(copy)


def test_float16_is_opened_as_transformers_opens_it(copy: Path, ids: torch.Tensor) -> None:
    cast(copy, torch.float16)
    ours = opening.load(str(copy)).model
    theirs = AutoModelForCausalLM.from_pretrained(copy, dtype=torch.float16).eval()
    assert {p.dtype for p in ours.parameters()} == {torch.float16}
    with torch.inference_mode():
        assert torch.equal(ours(input_ids=ids).logits, theirs(input_ids=ids).logits)


RECIPES = (
    Recipe(bits=4, head_bits=4),
    Recipe(bits=3, residual_rank=4),
    Recipe(keep=0.5, factorize="svd", bits=8),
    Recipe(sparsity=0.5),
    Recipe(depth=0.5),
    Recipe(rotate=True),
)


def built(model: nn.Module, recipe: Recipe) -> Any:
    steps = build(model, recipe, Facts())
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("recipe", RECIPES, ids=Recipe.words)
def test_float16_stays_float16_in_an_export(copy: Path, tmp_path: Path, recipe: Recipe) -> None:
    cast(copy, torch.float16)
    loaded = opening.load(str(copy))
    _same_everywhere(loaded, recipe, tmp_path / "out")
    kinds = {t.dtype for t in load_file(tmp_path / "out" / "model.safetensors").values()}
    assert kinds <= {torch.float16, torch.uint8}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float16"


@pytest.fixture(scope="session")
def router(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bfloat16 mixture of experts whose router transformers keeps in float32."""
    torch.manual_seed(0)
    config = Ernie4_5_MoeConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        moe_intermediate_size=32,
        moe_num_experts=4,
        moe_k=2,
        moe_layer_start_index=0,
        moe_layer_end_index=1,
        max_position_embeddings=128,
    )
    folder = tmp_path_factory.mktemp("router") / "ernie"
    Ernie4_5_MoeForCausalLM(config).bfloat16().save_pretrained(folder)
    for file in folders["llama"].glob("tokenizer*"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(bits=4, head_bits=4), Recipe(depth=0.5)], ids=Recipe.words)
def test_parts_that_stay_float32_are_counted_so(router: Path, tmp_path: Path, recipe: Recipe) -> None:
    loaded = opening.load(str(router))
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16, torch.float32}
    assert "stored as bfloat16 are used as float32" in loaded.note
    _same_everywhere(loaded, recipe, tmp_path / "out")


def test_a_matrix_in_another_dtype_is_predicted_by_its_own(folders: dict[str, Path]) -> None:
    loaded = opening.load(str(folders["llama"]))
    layer = loaded.model.get_submodule(UP.removesuffix(".weight"))
    layer.weight.data = layer.weight.data.float()  # type: ignore[union-attr, operator]
    for recipe in (*RECIPES, Recipe()):
        predicted = size.Predictor(loaded.model, targets(loaded.model)).predict(recipe)
        if not recipe.structural:
            model = built(loaded.model, recipe).model
            assert size.stored_bytes(model) == predicted.file_bytes.value, recipe.words()
            empty = skeleton(loaded.model, recipe)
            assert {n: t.dtype for n, t in empty.state_dict().items()} == {
                n: t.dtype for n, t in model.state_dict().items()
            }


def dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    return {name: tensor.dtype for name, tensor in model.state_dict().items()}


def _same_everywhere(loaded: opening.Loaded, recipe: Recipe, folder: Path) -> None:
    """Predicted, built, exported and read again: the same bytes and the same numbers."""
    found = built(loaded.model, recipe)
    stored = size.stored_bytes(found.model)
    base = loaded.model
    if not recipe.structural:
        assert size.Predictor(base, targets(base)).predict(recipe, found.allotted).file_bytes.value == stored
    about = (recipe, found.allotted, "x")
    assert exporting.write(found.model, about, loaded.tokenizer, {}, folder) == stored
    again, _, _ = exporting.read(folder)
    ids = torch.arange(2, 26)[None]
    with torch.inference_mode():
        exact, read = found.model(input_ids=ids).logits.float(), again(input_ids=ids).logits.float()
    assert (exact - read).abs().max() <= 0.02 * exact.abs().max()
