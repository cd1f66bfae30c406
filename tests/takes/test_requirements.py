"""What a model takes: arithmetic that can be done by hand."""

import json

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from explorer.__main__ import main
from explorer.layers.targets import targets
from explorer.measure.size import Predictor
from explorer.takes import catalogue, requirements
from explorer.takes.configs import architecture_of_config
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe


def small() -> requirements.Takes:
    name, architecture, entry = catalogue.named("SmolLM2-135M")
    assert entry
    return requirements.what_it_takes(name, architecture, tokens=entry.tokens, context=1000)


def test_the_cache_is_keys_and_values_of_every_layer() -> None:
    assert small().cache_bytes.value == 2 * 30 * 3 * 64 * 1000 * 2


def test_fewer_bits_take_fewer_bytes_and_16_are_two_bytes_a_weight() -> None:
    found = small()
    assert found.weights[16].value == 2 * found.parameters.value
    sizes = [found.weights[bits].value for bits in requirements.BITS]
    assert sizes == sorted(sizes, reverse=True)


def test_training_is_six_times_weights_times_tokens() -> None:
    found = small()
    assert found.training
    assert found.training.flop.value == pytest.approx(
        6 * found.parameters.value * found.training.tokens.value, rel=1e-6
    )


def test_everything_is_badged_calculated_and_the_five_costs_add_up() -> None:
    found = small()
    readings = [value for value in vars(found).values() if isinstance(value, Reading)]
    assert readings and all(reading.how == "calculated" for reading in readings)
    costs = found.best.costs
    five = (costs.compute, costs.storage, costs.maintenance, costs.infrastructure, costs.energy)
    assert costs.total.value == pytest.approx(sum(cost.value for cost in five))


@pytest.mark.parametrize("wrong", [{"context": -1}, {"batch": 0}, {"bits": 5}, {"gpu": "abacus"}])
def test_nonsense_is_one_sentence(wrong: dict[str, object]) -> None:
    architecture = catalogue.named("SmolLM2-135M")[1]
    with pytest.raises(ValueError):
        requirements.what_it_takes("x", architecture, **wrong)  # type: ignore[arg-type]


def test_the_command_says_it_in_words_and_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["what-it-takes", "falcon-180B"]) == 0
    assert "all figures calculated" in capsys.readouterr().out
    assert main(["what-it-takes", "falcon-180B", "--bits", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == pytest.approx(1.8e11, rel=0.01)
    assert main(["what-it-takes", "nothing of the kind"]) == 2


@pytest.mark.parametrize("bits", requirements.BITS)
@pytest.mark.parametrize("tied", [True, False])
def test_the_weights_are_the_bytes_that_the_page_makes_of_them(bits: int, tied: bool) -> None:
    config = LlamaConfig(
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=384,
        tie_word_embeddings=tied,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    recipe = Recipe() if bits == 16 else Recipe(bits=bits, head_bits=bits)
    calculated = requirements.weight_bytes(architecture_of_config(config.to_dict()), bits)
    assert calculated == Predictor(model, targets(model)).predict(recipe).file_bytes.value


def test_a_months_costs_divided_by_its_tokens_are_what_a_million_costs() -> None:
    best, prices = small().best, requirements.default_prices()
    assert best.all_usd_per_million.value * prices.million_tokens_per_month == pytest.approx(best.costs.total.value)
    in_use = best.costs.compute.value + best.costs.energy.value
    assert best.usd_per_million.value * prices.million_tokens_per_month == pytest.approx(in_use)
