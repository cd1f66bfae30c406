"""Rotation: the same predictions, matrices without outliers, and everything that follows works on it."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer.layers.rotated import RotatedEmbedding, RotatedNorm
from explorer.measure import quality
from explorer.model import decode, exporting, healing, kept, teach
from explorer.model.compressing import build, compress, reshape, settle
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.model.rotate import rotate
from explorer.values.recipe import Recipe
from explorer.workbench.variants import Variants

FactsOf = Callable[[torch.nn.Module], Facts]


def test_a_rotated_model_predicts_the_same(llama: Loaded, ids: torch.Tensor, facts_of: FactsOf) -> None:
    base = copy.deepcopy(llama.model).float()
    model, _ = rotate(base, facts_of(base))
    before, after = base(ids).logits.detach(), model(ids).logits
    assert torch.allclose(before, after, atol=1e-4) and not torch.equal(before, after)
    body: Any = model.model
    assert isinstance(body.embed_tokens, RotatedEmbedding) and isinstance(body.norm, RotatedNorm)
    assert all((block.input_layernorm.weight == 1).all() for block in body.layers)


def test_the_facts_are_those_of_the_rotated_model_s_own_inputs(llama: Loaded, facts_of: FactsOf) -> None:
    base = copy.deepcopy(llama.model).float()
    model, told = rotate(base, facts_of(base))
    own = facts_of(model)
    for name in ("self_attn.q_proj", "mlp.up_proj", "mlp.down_proj", "self_attn.o_proj"):
        there = f"model.layers.1.{name}"
        for ask in ("gram", "mean"):
            found, right = getattr(told, ask)(there), getattr(own, ask)(there)
            assert torch.allclose(found, right, atol=1e-3 * float(right.abs().max())), (name, ask)
        size, right = told.mean_size(there), own.mean_size(there)
        assert size is not None and right is not None and float((size / right).median() - 1) < 0.3


def test_outliers_are_gone_and_few_bits_cost_less(llama: Loaded, facts_of: FactsOf) -> None:
    base: Any = copy.deepcopy(llama.model).float()
    with torch.no_grad():
        for block in base.model.layers:  # a direction that stands out, as in trained models
            for layer in (block.self_attn.v_proj, block.mlp.gate_proj, block.mlp.up_proj):
                layer.weight[:, 3] *= 30
    ids = torch.randint(0, 64, (1, 48), generator=torch.Generator().manual_seed(0))
    passage, right = quality.Passage(kind="", ids=ids), base(ids).logits[0, :-1].detach()

    def kl(recipe: Recipe) -> float:
        logits = quality.logits_of(compress(base, recipe, facts_of(base)), passage)
        return float(quality.score(passage, right, logits).kl.mean())

    assert kl(Recipe(bits=3, quant="rtn", rotate=True)) < kl(Recipe(bits=3, quant="rtn"))


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(bits=3, head_bits=4, quant="gptq", rotate=True),
        Recipe(bits=4, quant="awq", rotate=True, depth=0.5),
        Recipe(sparsity=0.5, rotate=True, protect=("first",)),
        Recipe(keep=0.8, rotate=True, width=0.25),
    ],
    ids=Recipe.words,
)
def test_it_is_kept_exported_and_opened_again(
    llama: Loaded, tokenizer: Any, facts_of: FactsOf, tmp_path: Path, recipe: Recipe
) -> None:
    facts, ids = facts_of(llama.model), torch.arange(1, 13)[None]
    steps = build(llama.model, recipe, facts)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            built = end.value
            break
    right = built.model(ids).logits
    kept.save(built, reshape(llama.model, recipe, facts)[0], tmp_path / "kept.safetensors")
    again = kept.load(reshape(llama.model, recipe, facts)[0], recipe, tmp_path / "kept.safetensors")
    assert again and torch.equal(again.model(ids).logits, right)
    exporting.write(built.model, (recipe, built.allotted, "llama"), tokenizer, {}, tmp_path / "out")
    opened, _, found = exporting.read(tmp_path / "out")
    settled = settle(built.model)
    assert found == recipe and torch.allclose(opened(ids).logits, settled(ids).logits, atol=1e-3, rtol=0.02)


def test_the_own_decode_step_takes_it(llama: Loaded, facts_of: FactsOf) -> None:
    recipe = Recipe(bits=4, head_bits=4, rotate=True)
    model = settle(compress(llama.model, recipe, facts_of(llama.model)))
    assert decode.step_of(model) is not None


def test_sizes_are_as_predicted(llama: Loaded, facts_of: FactsOf, tmp_path: Path) -> None:
    variants = Variants(llama.model, facts_of(llama.model), tmp_path)
    recipe = Recipe(bits=3, head_bits=3, rotate=True)
    found = variants.get(recipe)
    assert found.size.file_bytes.value == found.size.predicted_bytes.value == variants.predict(recipe).file_bytes.value


def test_it_can_be_healed(llama: Loaded, facts_of: FactsOf) -> None:
    wounded = compress(llama.model, Recipe(bits=2, quant="rtn", rotate=True), facts_of(llama.model))
    ids = torch.randint(2, 300, (8, 24), generator=torch.Generator().manual_seed(9))
    steps = list(healing.heal(wounded, teach.read(llama.model, ids), 30, inside=False))
    assert steps[-1].kl.value < 0.95 * steps[0].kl.value


def test_families_of_another_build_are_refused_in_one_sentence(gpt2: Loaded, facts_of: FactsOf) -> None:
    with pytest.raises(ValueError, match=r"^Rotation needs a model of Llama's build; GPT2LMHeadModel is another\.$"):
        compress(gpt2.model, Recipe(bits=3, rotate=True), facts_of(gpt2.model))


def test_rotation_by_itself_is_no_setting() -> None:
    assert Recipe(rotate=True) == Recipe() and Recipe(rotate=True, head_bits=4) == Recipe(head_bits=4)
    assert Recipe(rotate=True, bits=3).words() == "3 bits, rotated"
    assert Recipe.from_dict({"rotate": "true", "bits": "3"}).rotate
    with pytest.raises(ValueError, match="rotate must be true or false"):
        Recipe(rotate="yes", bits=3)  # type: ignore[arg-type]
