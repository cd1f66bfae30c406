"""The own decode step is transformers' forward by another road, and is left out wherever it is not."""

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from explorer.layers.targets import siblings
from explorer.model import decode
from explorer.model.compressing import compress, settle
from explorer.model.decode import Continuation, step_of
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.recipe import Recipe

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "max_position_embeddings": 512,
}
FAMILY = {
    "llama": LlamaConfig(**SHAPE),
    "llama3 rope": LlamaConfig(
        **SHAPE,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    "attention bias": LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE, head_dim=32),
    "mistral": MistralConfig(**SHAPE, sliding_window=None),
}


@pytest.fixture(autouse=True)
def compared_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_right", {})


def model_of(config: PretrainedConfig) -> nn.Module:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.2)
    return model.eval().requires_grad_(False)


def logits_along(model: nn.Module, ids: torch.Tensor, own_step: bool, first: int = 5) -> torch.Tensor:
    text = Continuation(model, own_step)
    found = [text.feed(ids[:, :first])] + [text.feed(ids[:, i : i + 1]) for i in range(first, ids.shape[1])]
    return torch.stack(found)


@pytest.mark.parametrize("family", FAMILY)
def test_the_own_step_equals_transformers(family: str) -> None:
    model = model_of(FAMILY[family])
    ids = torch.randint(0, 300, (1, 90), generator=torch.Generator().manual_seed(2))
    assert step_of(model) is not None
    own, theirs = logits_along(model, ids, True), logits_along(model, ids, False)
    torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "attention bias", "qwen3"])
def test_each_of_several_texts_goes_on_as_if_alone(family: str) -> None:
    model = model_of(FAMILY[family])
    ids = torch.randint(0, 300, (3, 80), generator=torch.Generator().manual_seed(2))
    assert step_of(model) is not None
    for first in range(3):  # the logits are those of the first text
        together = logits_along(model, ids.roll(first, 0), True)
        torch.testing.assert_close(together, logits_along(model, ids.roll(first, 0)[:1], False), rtol=1e-4, atol=1e-4)


def test_one_pass_over_all_tokens_gives_the_same(llama32: Loaded, ids: torch.Tensor) -> None:
    along = logits_along(llama32.model, ids, True, first=1)
    with torch.inference_mode():
        torch.testing.assert_close(along, llama32.model(input_ids=ids).logits[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "recipe",
    [Recipe(bits=4, head_bits=4), Recipe(sparsity=0.5), Recipe(keep=0.6, bits=8), Recipe(keep=0.7, bits=4)],
    ids=lambda recipe: recipe.words(),
)
def test_compressed_models_have_it_too(llama: Loaded, ids: torch.Tensor, recipe: Recipe) -> None:
    model = settle(compress(llama.model, recipe, Facts()), siblings(llama.model))
    assert step_of(model) is not None
    own, theirs = (logits_along(model, ids, way).log_softmax(-1) for way in (True, False))
    assert (own.exp() * (own - theirs)).sum(-1).mean() < 0.01


def test_families_that_it_does_not_know_run_on_transformers(gpt2: Loaded, ids: torch.Tensor) -> None:
    assert step_of(gpt2.model) is None
    own, theirs = logits_along(gpt2.model, ids, True), logits_along(gpt2.model, ids, False)
    assert torch.equal(own, theirs)


@pytest.mark.parametrize(
    "config",
    [
        MistralConfig(**SHAPE, sliding_window=16),
        LlamaConfig(**SHAPE, rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}),
    ],
    ids=["sliding window", "tables that depend on the length"],
)
def test_what_it_cannot_follow_is_not_recognised(config: PretrainedConfig) -> None:
    assert step_of(model_of(config)) is None


def test_a_step_that_disagrees_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(FAMILY["llama"])
    model.model.layers[1].self_attn.scaling *= 0.5  # the step reads the first block's
    assert step_of(model) is None


@pytest.mark.parametrize("texts, taken", [(1, True), (4, False)])
def test_one_prediction_that_hangs_on_a_rounding_is_no_disagreement(
    monkeypatch: pytest.MonkeyPatch, texts: int, taken: bool
) -> None:
    model, step = model_of(FAMILY["llama"]), decode.Step.__call__

    def off(self: decode.Step, ids: torch.Tensor, place: int, kept: list[torch.Tensor]) -> torch.Tensor:
        logits = step(self, ids, place, kept)
        logits[:texts, 0] += 20.0
        return logits

    monkeypatch.setattr(decode.Step, "__call__", off)
    assert (step_of(model) is not None) == taken


def test_the_comparison_is_made_once_for_models_that_differ_in_weights_alone(
    llama: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared, agrees = [], decode._agrees
    monkeypatch.setattr(decode, "_agrees", lambda *given: compared.append(1) or agrees(*given))
    recipes = [
        Recipe(sparsity=0.5),
        Recipe(sparsity=0.3),
        Recipe(bits=8, head_bits=8),
        Recipe(bits=4),
        Recipe(bits=3),
        Recipe(keep=0.7),
    ]
    counts = []
    for recipe in recipes:
        assert step_of(settle(compress(llama.model, recipe, Facts()), siblings(llama.model))) is not None
        counts.append(len(compared))
    assert counts == [1, 1, 2, 3, 3, 4]


def test_a_model_that_gives_no_numbers_is_left_to_transformers() -> None:
    model = model_of(FAMILY["llama"])
    model.model.norm.weight.fill_(float("nan"))
    assert decode.step_of(model) is None


def test_several_tokens_after_single_ones_follow_what_the_own_step_wrote(any_model: Loaded) -> None:
    ids = torch.randint(2, 300, (1, 14), generator=torch.Generator().manual_seed(4))
    ours, theirs = Continuation(any_model.model), Continuation(any_model.model, own_step=False)
    for text in (ours, theirs):
        text.feed(ids[:, :6]), text.feed(ids[:, 6:7])
    p, q = theirs.feed(ids[:, 7:]).log_softmax(-1), ours.feed(ids[:, 7:]).log_softmax(-1)
    assert ours.length == theirs.length == 14 and float((p.exp() * (p - q)).sum()) < 0.05
