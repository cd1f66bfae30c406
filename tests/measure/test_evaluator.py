"""One original, many compressed models, each comparison going on where it stopped."""

import math

import pytest
import torch

from explorer.measure import quality
from explorer.measure.evaluator import REFERENCE_TOKENS_KEPT, Evaluator
from explorer.measure.quality import Passage
from explorer.model.compressing import compress, settle
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.recipe import Recipe


@pytest.fixture
def passages() -> list[Passage]:
    draws = torch.Generator().manual_seed(9)
    return [Passage(kind="noise", ids=torch.randint(2, 300, (1, 40), generator=draws)) for _ in range(4)]


def test_it_goes_on_where_it_stopped_and_forgets_when_told(llama: Loaded, passages: list[Passage]) -> None:
    evaluator, model = Evaluator(llama.model, passages), settle(compress(llama.model, Recipe(bits=3), Facts()))
    found, enough = evaluator.evaluate("a", model, 50)
    assert found.tokens == 39 and not enough
    found, enough = evaluator.evaluate("a", model, 50)
    assert found.tokens == 78 and enough
    assert evaluator.evaluate("a", model, 50) == (found, True) and evaluator.evaluate("b", model, 1)[0].tokens == 39
    evaluator.forget("a")
    assert evaluator.evaluate("a", model, 50)[0].tokens == 39
    assert sum(map(len, evaluator.references.values())) <= REFERENCE_TOKENS_KEPT


def test_once_the_original_is_read_perplexities_are_those_of_the_whole_text(
    llama: Loaded, passages: list[Passage]
) -> None:
    evaluator, model = Evaluator(llama.model, passages), settle(compress(llama.model, Recipe(bits=3), Facts()))
    before = evaluator.evaluate("a", model, 39)[0]
    assert list(evaluator.read()) == [0.25, 0.5, 0.75, 1.0]
    after = evaluator.evaluate("a", model, 39)[0]
    assert (after.perplexity_original.n, after.perplexity.n, after.perplexity.how) == (156, 39, "estimated")
    assert after.ln_ppl_ratio == before.ln_ppl_ratio and after.kl == before.kl
    nats = [quality.nll_of(p, quality.logits_of(llama.model, p)).mean() for p in passages]
    assert math.isclose(after.perplexity_original.value, math.exp(sum(nats) / 4), rel_tol=1e-5)


def test_the_floor_is_found_once_and_every_later_quality_carries_it(llama: Loaded, passages: list[Passage]) -> None:
    evaluator, model = Evaluator(llama.model, passages), settle(compress(llama.model, Recipe(bits=3), Facts()))
    assert evaluator.evaluate("a", model, 1)[0].verdict == "no noise floor"
    floors = list(evaluator.find_floor())
    assert len(floors) == 4 and list(evaluator.find_floor()) == []
    found = evaluator.evaluate("a", model, 1)[0]
    assert found.noise_floor == floors[-1] and found.verdict == "distinguishable"
