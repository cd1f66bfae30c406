"""Every family goes through pruning, rounding and factorizing: finite logits, biases as they were."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from explorer.layers.linear import CompressedLinear
from explorer.layers.targets import siblings, targets, weight_of
from explorer.layers.uniform import uniform
from explorer.measure.size import Predictor, stored_bytes
from explorer.model.compressing import Built, build, settle
from explorer.model.facts import Facts
from explorer.values.recipe import Recipe

SIZES: dict[str, Any] = {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"max_position_embeddings": 128, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
MLP = {"intermediate_size": 96, "num_key_value_heads": 2}
BUILD: dict[str, Callable[[], nn.Module]] = {
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, **MLP)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, **MLP, head_dim=16)),
    "phi": lambda: PhiForCausalLM(PhiConfig(**SIZES, **MLP)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**SIZES, ffn_dim=96, word_embed_proj_dim=64)),
    "gpt2": lambda: uniform(
        GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=64, n_layer=2, n_head=4, n_positions=128, pad_token_id=0))
    ),
    "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, intermediate_size=100)),
}
RECIPES = [
    Recipe(sparsity=0.5),
    Recipe(sparsity=0.5, prune="sparsegpt", scope="global"),
    Recipe(pattern="2:4", prune="ria", bits=4),
    Recipe(bits=4, head_bits=4),
    Recipe(bits=3, quant="gptq", head_bits=6),
    Recipe(bits=4, quant="awq", residual_rank=8),
    Recipe(quant="nf4", double=True, head_bits=4),
    Recipe(quant="int8"),
    Recipe(keep=0.6, allocate="global"),
    Recipe(keep=0.6, factorize="asvd", sparsity=0.35, bits=4, quant="hqq"),
    Recipe(depth=0.5, bits=8),
    Recipe(width=0.25, bits=4),
]


@pytest.fixture(scope="module")
def known() -> dict[str, tuple[nn.Module, Facts]]:
    """Models with strong weights and biases, as transformers builds them, and what calibration tells of them."""
    torch.manual_seed(0)
    found = {}
    for family, make in BUILD.items():
        model, facts = make().eval().requires_grad_(False), Facts()
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 or name.endswith("bias"):
                nn.init.normal_(parameter, std=0.15)
        windows = [torch.randint(2, 300, (1, 40)) for _ in range(6)]
        list(facts.calibrate(model, windows)), list(facts.prepare(model))
        found[family] = model, facts
    return found


def finished(base: nn.Module, recipe: Recipe, facts: Facts) -> Built:
    steps = build(base, recipe, facts)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@torch.inference_mode()
def logits(model: Any, ids: Tensor) -> Tensor:
    return model(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize("family", BUILD)
@pytest.mark.parametrize("recipe", RECIPES, ids=Recipe.to_query)
def test_every_method_goes_through_every_family(
    known: dict[str, tuple[nn.Module, Facts]], family: str, recipe: Recipe, ids: Tensor
) -> None:
    base, facts = known[family]
    built = finished(base, recipe, facts)
    model, seen = built.model, 0
    for name, layer in model.named_modules():
        if isinstance(layer, CompressedLinear):
            seen += 1
            if not recipe.structural:
                bias = getattr(base.get_submodule(name), "bias", None)
                assert layer.bias is None if bias is None else torch.equal(layer.bias, bias)
    assert seen > 0 and not torch.equal(logits(model, ids), logits(base, ids))
    if not recipe.structural:
        predicted = Predictor(base, targets(base)).predict(recipe, built.allotted)
        assert predicted.file_bytes.value == stored_bytes(model)
    before = logits(model, ids)
    assert before.isfinite().all()
    after = logits(settle(model, siblings(base)), ids)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", BUILD)
def test_the_right_way_round(known: dict[str, tuple[nn.Module, Facts]], family: str) -> None:
    """At eight bits each layer is next to its original, also where that is stored (in, out)."""
    base, facts = known[family]
    model = finished(base, Recipe(bits=8, quant="rtn"), facts).model
    kinds = {t.kind for t in targets(base)}
    assert {"attention", "mlp"} <= kinds
    for target in targets(base):
        layer, module = model.get_submodule(target.name), base.get_submodule(target.name)
        if isinstance(layer, CompressedLinear):
            x = torch.randn(3, target.shape[1])
            torch.testing.assert_close(layer(x), module(x), rtol=0.05, atol=0.05)
            torch.testing.assert_close(layer.decoded(), weight_of(module), rtol=0, atol=0.01)


@pytest.mark.parametrize("family", BUILD)
def test_what_goes_in_is_gathered_for_every_layer(known: dict[str, tuple[nn.Module, Facts]], family: str) -> None:
    base, facts = known[family]
    for target in targets(base):
        if target.kind in ("attention", "mlp"):
            gram, felt = facts.gram(target.name), facts.felt_gram(target.name)
            assert gram is not None and felt is not None and gram.shape == felt.shape == (target.shape[1],) * 2
            assert gram.diagonal().min() >= 0 and gram.isfinite().all() and felt.isfinite().all()
