"""What is measured of a setting: quality by passages, techniques apart, everything in one go."""

import pytest

from explorer.measure.evaluator import REFERENCE_TOKENS_KEPT
from explorer.values.measurement import Measurement
from explorer.values.quality import Contributions
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench
from tests.workbench.test_workbench import RECIPES


def test_judging_the_original_finds_no_difference(workbench: Workbench) -> None:
    found = list(workbench.evaluate(Recipe(), 10**9))
    assert len(found) == len(workbench.passages) and found[-1].kl.value == 0 and found[-1].top1_agreement.value == 1
    assert [quality.tokens for quality in found] == sorted(quality.tokens for quality in found)
    assert len(list(workbench.evaluate(Recipe(), 1))) == 1


def test_references_are_kept_up_to_a_limit_and_change_nothing(workbench: Workbench) -> None:
    first = list(workbench.evaluate(RECIPES[0], 10**9))[-1]
    assert workbench.evaluator.references
    assert sum(map(len, workbench.evaluator.references.values())) <= REFERENCE_TOKENS_KEPT
    assert list(workbench.evaluate(RECIPES[0], 10**9))[-1] == first
    workbench.evaluator.references.clear()
    assert list(workbench.evaluate(RECIPES[0], 10**9))[-1] == first


def test_a_combined_setting_is_taken_apart(workbench: Workbench) -> None:
    whole = Recipe(bits=4, sparsity=0.5)
    *shares, found = workbench.contributions(whole, tokens=10)
    assert all(isinstance(share, float) for share in shares) and shares == sorted(shares)
    assert isinstance(found, Contributions) and set(found.alone) == {"bits", "pruning"}
    for name, one in (("bits", Recipe(bits=4)), ("pruning", Recipe(sparsity=0.5))):
        assert found.alone[name].value == list(workbench.evaluate(one, 10))[-1].kl.value
    with pytest.raises(ValueError, match="fewer than two"):
        next(workbench.contributions(Recipe(bits=4), tokens=10))


def test_measuring_in_one_go_finds_everything(workbench: Workbench) -> None:
    found = workbench.measure(Recipe(bits=4), tokens=20, rounds=1)
    assert isinstance(found, Measurement) and found is workbench.measured(Recipe(bits=4))
    assert found.speed is not None and found.quality is not None and found.seconds["measure"] > 0
    assert "int4" in found.speed.kernel and found.quality.kl.value > 0
