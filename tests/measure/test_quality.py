"""Distance to the original: paired, on identical tokens."""

import math

import pytest
import torch
from torch import Tensor

from explorer.measure import quality
from explorer.measure.quality import Passage, logits_of, passages, score, summarize
from explorer.model.compress import compress, settle
from explorer.model.facts import Facts
from explorer.model.hub import Loaded
from explorer.recipe import Recipe


@pytest.fixture
def some(llama: Loaded) -> list[Passage]:
    draws = torch.Generator().manual_seed(9)
    return [Passage(kind="noise", ids=torch.randint(2, 300, (1, n), generator=draws)) for n in (30, 2, 17, 40)]


def judge(loaded: Loaded, recipe: Recipe, some: list[Passage]) -> quality.Quality:
    model = settle(compress(loaded.model, recipe, Facts()))
    return summarize([score(p, logits_of(loaded.model, p), logits_of(model, p)) for p in some])


def test_the_original_against_itself_is_exactly_the_same(any_model: Loaded, some: list[Passage]) -> None:
    found = judge(any_model, Recipe(), some)
    assert found.kl.value == found.kl.low == found.kl.high == 0
    assert found.top1_agreement.value == found.top1_agreement.low == 1
    assert found.perplexity == found.perplexity_original
    assert found.tokens == sum(p.predicted for p in some) == 29 + 1 + 16 + 39


def test_perplexity_is_that_of_transformers_loss(any_model: Loaded, some: list[Passage]) -> None:
    total = tokens = 0.0
    with torch.inference_mode():
        for passage in some:
            logits = any_model.model(input_ids=passage.ids).logits.float()
            loss = any_model.model.loss_function(logits, labels=passage.ids, vocab_size=300)
            plain = any_model.model(input_ids=passage.ids, labels=passage.ids).loss
            assert torch.isclose(loss, plain, rtol=1e-2)
            total += float(loss) * passage.predicted
            tokens += passage.predicted
    found = judge(any_model, Recipe(), some).perplexity_original.value
    assert math.isclose(found, math.exp(total / tokens), rel_tol=1e-4)


def test_kl_is_that_of_torch(llama: Loaded, some: list[Passage]) -> None:
    model = compress(llama.model, Recipe(bits=3), Facts())
    p, q = logits_of(llama.model, some[0]).double(), logits_of(model, some[0]).double()
    expected = torch.nn.functional.kl_div(q.log_softmax(-1), p.log_softmax(-1), reduction="batchmean", log_target=True)
    found = summarize([score(some[0], p.bfloat16(), q.bfloat16())])
    assert math.isclose(found.kl.value, float(expected), rel_tol=1e-3)


@pytest.mark.parametrize(
    "ladder",
    [
        [Recipe(bits=bits) for bits in (16, 8, 5, 4, 3, 2)],
        [Recipe(sparsity=share) for share in (0.0, 0.2, 0.5, 0.7, 0.9)],
        [Recipe(keep=keep) for keep in (1.0, 0.9, 0.6, 0.2)],
    ],
    ids=["bits", "sparsity", "keep"],
)
def test_a_harder_setting_is_further_away(llama32: Loaded, some: list[Passage], ladder: list[Recipe]) -> None:
    found = [judge(llama32, recipe, some) for recipe in ladder]
    distances = [each.kl.value for each in found]
    assert distances == sorted(distances) and distances[0] < distances[-1] / 3
    assert found[0].top1_agreement.value > found[-1].top1_agreement.value


def known(nll: list[float]) -> Tensor:
    """Logits (tokens, 2) under which token 0 costs exactly these nats."""
    p = torch.tensor(nll, dtype=torch.float64).neg().exp()
    return torch.stack([p.log(), (1 - p).log()], dim=-1)


def test_numbers_that_can_be_checked_by_hand() -> None:
    passage = Passage(kind="k", ids=torch.zeros(1, 3, dtype=torch.long))
    original, compressed = known([math.log(2), math.log(4)]), known([math.log(4), math.log(4)])
    found = score(passage, original.float(), compressed.float())
    assert math.isclose(found.nll_original, math.log(8), rel_tol=1e-5)
    assert math.isclose(found.nll, math.log(16), rel_tol=1e-5)
    assert math.isclose(found.kl, 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75), rel_tol=1e-4)
    assert found.tokens == 2 and found.broken == 0
    assert math.isclose(summarize([found]).perplexity.value, 4.0, rel_tol=1e-5)


def test_positions_that_are_no_numbers_are_counted_apart() -> None:
    passage = Passage(kind="k", ids=torch.zeros(1, 4, dtype=torch.long))
    original = known([1.0, 1.0, 1.0]).float()
    broken = original.clone()
    broken[0, 0], broken[2, 1] = torch.nan, torch.inf
    found = summarize([score(passage, original, broken)])
    assert (found.tokens, found.broken_positions) == (1, 2)
    assert math.isclose(found.perplexity.value, math.e, rel_tol=1e-5) and found.kl.value == 0


def test_a_model_that_is_wholly_destroyed_still_has_a_summary() -> None:
    passage = Passage(kind="k", ids=torch.zeros(1, 3, dtype=torch.long))
    original = known([1.0, 1.0]).float()
    found = summarize([score(passage, original, torch.full_like(original, torch.nan))] * 3)
    assert found.tokens == 0 and found.broken_positions == 6 and math.isnan(found.kl.value)


def test_long_passages_count_more_and_intervals_hold_their_value(llama: Loaded, some: list[Passage]) -> None:
    scores = [score(p, logits_of(llama.model, p), logits_of(llama.model, p).roll(1, -1)) for p in some]
    found = summarize(scores)
    assert math.isclose(found.kl.value, sum(s.kl for s in scores) / sum(s.tokens for s in scores))
    for reading in (found.kl, found.perplexity, found.top1_agreement):
        assert reading.low is not None and reading.high is not None
        assert reading.low <= reading.value <= reading.high and reading.n == found.tokens
    assert summarize(scores) == found  # the resampling has a seed
    assert summarize(scores[:1]).kl.low is None


def test_passages_take_turns_by_kind_and_start_with_the_first_token(llama: Loaded) -> None:
    found = passages(llama.tokenizer, {"a": ["cat", "dog"], "b": ["mat"], "c": []}, longest=4)
    assert [p.kind for p in found] == ["a", "b", "a"]
    assert all(p.ids[0, 0] == llama.tokenizer.bos_token_id and p.ids.shape[1] <= 4 for p in found)


def test_a_long_text_is_cut_into_windows_and_none_of_it_is_lost(llama: Loaded) -> None:
    text = "the cat sat on the mat and waited for the rain"
    found = passages(llama.tokenizer, {"a": [text]}, longest=4)
    assert [i for p in found for i in p.ids[0, 1:].tolist()] == llama.tokenizer(text).input_ids
    assert all(p.ids[0, 0] == llama.tokenizer.bos_token_id and p.ids.shape[1] <= 4 for p in found)


def test_a_passage_with_nothing_to_predict_is_left_out(llama: Loaded) -> None:
    assert passages(llama.tokenizer, {"a": [""], "b": []}) == []


def test_in_float32_the_original_is_at_no_distance_and_small_distances_show(llama: Loaded) -> None:
    found = passages(llama.tokenizer, {"a": ["The cat sat on the mat."] * 3, "b": ["def add(a, b): return a + b"] * 3})
    original = quality.References(llama.model, found, 40)
    assert len(original.passages) < len(found)
    assert original.compare(compress(llama.model, Recipe(), Facts()))[0] == 0
    distances = [
        original.compare(compress(llama.model, Recipe(bits=bits, quant="rtn", head_bits=bits), Facts()))[0]
        for bits in (8, 5, 3)
    ]
    assert 0 < distances[0] < distances[1] < distances[2]
