"""What a model takes: arithmetic that can be done by hand."""

import json

import pytest

from explorer.__main__ import main
from explorer.takes import catalogue, requirements
from explorer.values.reading import Reading


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
