"""The parts of a model, each once, with what each multiplies by."""

from collections.abc import Callable

import pytest
import torch

from explorer.formats.leaves import kind_of, structure_of
from explorer.layers.linear import CompressedLinear
from explorer.model.compressing import compress
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.recipe import Recipe


def test_an_untouched_model_is_its_own_tensors(any_model: Loaded) -> None:
    structure = structure_of(any_model.model, any_model.model)
    state = any_model.model.state_dict()
    tied = any_model.model.config.tie_word_embeddings  # type: ignore[union-attr, operator]
    assert structure.tied == tied
    assert {leaf.name for leaf in structure.leaves} == {*state} - ({"lm_head.weight"} if tied else set())
    assert all(torch.equal(leaf.matrix(), state[leaf.name]) for leaf in structure.leaves)


@pytest.mark.parametrize(
    "recipe, kind, exact",
    [(Recipe(bits=4, quant="rtn"), "codes", True), (Recipe(sparsity=0.5, prune="magnitude"), "zeros", True)]
    + [(Recipe(quant="nf4"), "blocks", True), (Recipe(keep=0.5, factorize="svd"), "", False)],
    ids=["codes", "zeros", "blocks", "factors"],
)
def test_a_layer_says_what_it_multiplies_by(llama: Loaded, recipe: Recipe, kind: str, exact: bool) -> None:
    model = compress(llama.model, recipe, Facts())
    for leaf in structure_of(model, llama.model).leaves:
        if isinstance(leaf.layer, CompressedLinear):
            assert kind_of(leaf.stored) == kind and leaf.exact == exact
            assert leaf.matrix().dtype == (leaf.dtype if exact else torch.float32)
            assert torch.allclose(leaf.matrix().float(), leaf.layer.decoded(), rtol=1e-2, atol=1e-3)


def test_ends_of_a_rotated_model_take_the_rotation_up(llama32: Loaded) -> None:
    model = compress(llama32.model, Recipe(bits=8, quant="rtn", rotate=True), Facts())
    structure = structure_of(model, llama32.model)
    found = {leaf.name: leaf for leaf in structure.leaves}
    assert not structure.tied and torch.equal(found["model.norm.weight"].matrix(), torch.ones(64))
    norm = model.model.norm  # type: ignore[union-attr]
    head = found["lm_head.weight"].matrix() @ norm.rotation.matrix.float().T  # type: ignore[union-attr, operator]
    assert torch.allclose(head, llama32.model.lm_head.weight * norm.weight, atol=1e-4)  # type: ignore[union-attr, operator]


def test_experts_of_a_kind_lie_together(tiny_of: Callable[..., Loaded]) -> None:
    loaded = tiny_of("qwen3moe")
    model = compress(loaded.model, Recipe(bits=4, quant="rtn"), Facts())
    found = {leaf.name: leaf for leaf in structure_of(model, loaded.model).leaves}
    experts = found["model.layers.0.mlp.experts.gate_up_proj"]
    assert experts.shape == (4, 64, 64) and len(experts.parts) == 4 and tuple(experts.matrix().shape) == experts.shape
