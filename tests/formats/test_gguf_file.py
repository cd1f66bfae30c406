"""Files of every family, opened again by our own reading: the numbers are those that the model multiplies by."""

from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch

from explorer.formats.gguf_settings import ARCHITECTURES
from explorer.layers.experts import Stack
from explorer.layers.linear import CompressedEmbedding
from explorer.measure.quality import decoded
from explorer.model import opening
from explorer.model.compressing import compress
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.recipe import Recipe
from tests.formats.conftest import as_gguf, written_gguf
from tests.model import ggufs

Tiny = Callable[..., Loaded]
LLAMA3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 256}
ROPES = [LLAMA3 | {"original_max_position_embeddings": 64}, YARN, YARN | {"attention_factor": 1.1, "beta_fast": 16.0}]
ROPES += [{"rope_type": "linear", "rope_theta": 1e5, "factor": 2.0}, {"rope_type": "default", "rope_theta": 5e5}]


def apart(one: torch.nn.Module, other: torch.nn.Module) -> float:
    """Largest difference of logits in float32, as a share of the largest logit. Our reading rounds to bfloat16."""
    plain = decoded(one).float()
    for parameter in plain.parameters():
        parameter.data = parameter.data.bfloat16().float()
    for module in plain.modules():
        if isinstance(module, Stack) and module.whole is not None:
            module.fill(module.whole.bfloat16().float(), module.whole_bias)
        if isinstance(module, CompressedEmbedding):
            module.stored.weight = module.stored.weight.bfloat16().float()  # type: ignore[union-attr, operator, assignment]
    right, found = ggufs.logits(plain), ggufs.logits(other.float())
    return float((right - found).abs().max() / right.abs().max())


@pytest.mark.parametrize("family", sorted(ggufs.CONFIGS))
@pytest.mark.parametrize("recipe", [Recipe(), Recipe(bits=6, quant="rtn", head_bits=7)], ids=Recipe.words)
def test_a_file_holds_what_the_model_multiplies_by(tiny_of: Tiny, family: str, recipe: Recipe, tmp_path: Path) -> None:
    loaded = tiny_of(family)
    model = compress(loaded.model, recipe, Facts())
    again = opening.load(str(written_gguf(model, loaded, tmp_path / "model.gguf")))
    assert again.model.config.model_type == loaded.model.config.model_type
    assert apart(model, again.model) < 0.005


def test_every_family_that_is_read_is_written_gguf() -> None:
    assert set(ARCHITECTURES.values()) == set(ggufs.CONFIGS)


@pytest.mark.parametrize("rope", ROPES, ids=lambda rope: rope["rope_type"])
def test_positions_are_turned_as_in_the_original(tiny_of: Tiny, rope: dict[str, object], tmp_path: Path) -> None:
    loaded = tiny_of("llama", rope_parameters=rope)
    again = opening.load(str(written_gguf(loaded.model, loaded, tmp_path / "model.gguf")))
    assert apart(loaded.model, again.model) < 0.005
    for key, value in rope.items():
        assert again.model.config.rope_parameters[key] == pytest.approx(value) if key != "rope_type" else True


def test_codes_in_groups_leave_in_blocks(tiny_of: Tiny, tmp_path: Path) -> None:
    loaded = tiny_of("qwen3")
    model = compress(loaded.model, Recipe(bits=4, quant="rtn", group="32", layers=("mlp=bits:5",)), Facts())
    kinds = {
        t.name: t.tensor_type.name for t in gguf.GGUFReader(written_gguf(model, loaded, tmp_path / "m.gguf")).tensors
    }
    assert kinds["blk.0.attn_q.weight"] == "Q4_1" and kinds["blk.1.ffn_up.weight"] == "Q5_1"
    assert kinds["token_embd.weight"] == "F32" and kinds["blk.0.attn_norm.weight"] == "F32"
    assert apart(model, opening.load(str(tmp_path / "m.gguf")).model) < 0.02


@pytest.mark.parametrize(
    "recipe",
    [Recipe(sparsity=0.5, prune="magnitude"), Recipe(keep=0.5, factorize="svd", bits=4, quant="rtn")]
    + [Recipe(bits=4, quant="rtn", rotate=True, head_bits=4), Recipe(quant="nf4")],
    ids=Recipe.words,
)
def test_what_no_block_holds_leaves_multiplied_out(tiny_of: Tiny, recipe: Recipe, tmp_path: Path) -> None:
    loaded = tiny_of("llama")
    model = compress(loaded.model, recipe, Facts())
    again = opening.load(str(written_gguf(model, loaded, tmp_path / "model.gguf")))
    assert apart(model, again.model) < 0.03


@pytest.mark.parametrize(
    "family, change, word",
    [("llama", {"hidden_act": "gelu"}, "activation"), ("gemma2", {"query_pre_attn_scalar": 7}, "query_pre_attn_scalar")]
    + [("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx")]
    + [
        ("qwen2", {"rope_parameters": ROPES[0]}, "llama3"),
        ("llama", {"rope_parameters": YARN | {"mscale": 2.0}}, "mscale"),
    ],
)
def test_what_llama_cpp_would_run_otherwise_is_refused_by_name(
    tiny_of: Tiny, family: str, change: dict[str, object], word: str
) -> None:
    loaded = tiny_of(family, **change)
    with pytest.raises(ValueError, match=word):
        as_gguf(loaded.model, loaded)


def test_a_family_that_llama_cpp_or_our_reading_lacks_is_refused(folders: dict[str, Path]) -> None:
    loaded = opening.load(str(folders["neox"]))
    with pytest.raises(ValueError, match="type gpt_neox are not written as GGUF"):
        as_gguf(loaded.model, loaded)
