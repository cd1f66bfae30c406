"""Distance to the original: paired, on identical tokens."""

import math
import time

import numpy as np
import pytest
import torch
from torch import Tensor

from explorer.measure import quality
from explorer.measure.quality import Passage, logits_of, passages, score, summarize
from explorer.model.compressing import compress, settle
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.recipe import Recipe


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
    assert found.kl_max.value == found.kl_99_9.value == found.delta_p_rms.value == found.ln_ppl_ratio.value == 0
    assert found.ppl_correlation.value == found.ppl_ratio.value == 1 and found.verdict == "identical"


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
    assert np.allclose(found.nll_original, np.log([2, 4])) and np.allclose(found.nll, np.log([4, 4]))
    assert np.allclose(found.kl, [0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75), 0], atol=1e-6)
    assert found.tokens == 2 and found.broken == 0 and found.right_original.tolist() == [True, False]
    summary = summarize([found])
    assert math.isclose(summary.perplexity.value, 4.0, rel_tol=1e-5)
    assert math.isclose(summary.perplexity_original.value, math.sqrt(8), rel_tol=1e-5)
    assert math.isclose(summary.ln_ppl_ratio.value, math.log(2) / 2, rel_tol=1e-5)
    assert math.isclose(summary.ppl_ratio.value, math.sqrt(2), rel_tol=1e-5)
    assert math.isclose(summary.delta_p_mean.value, -0.125, rel_tol=1e-5)
    assert math.isclose(summary.delta_p_rms.value, 0.25 / math.sqrt(2), rel_tol=1e-5)
    assert math.isclose(summary.kl_max.value, float(found.kl[0]))
    assert math.isclose(summary.kl_median.value, float(found.kl.mean()))


def test_flips_are_counted_both_ways() -> None:
    passage = Passage(kind="k", ids=torch.zeros(1, 5, dtype=torch.long))
    original, compressed = known([0.1, 0.1, 3.0, 3.0]).float(), known([3.0, 0.2, 0.1, 4.0]).float()
    (part,) = quality.by_kind([score(passage, original, compressed)])
    assert (part.lost.value, part.gained.value, part.top1_agreement.value) == (0.25, 0.25, 0.5)


def test_a_position_that_is_no_number_spares_no_mean_that_it_is_part_of() -> None:
    passage = Passage(kind="k", ids=torch.zeros(1, 41, dtype=torch.long))
    original = known([1.0] * 40).float()
    broken = original.clone()
    broken[0, 0], broken[2, 1] = torch.nan, torch.inf
    found = summarize([score(passage, original, broken)] * 2)
    assert (found.tokens, found.broken_positions, found.verdict) == (76, 4, "broken")
    for reading in (found.kl, found.perplexity, found.ln_ppl_ratio, found.kl_max, found.ppl_correlation):
        assert math.isnan(reading.value) and reading.low is None and reading.high is None
    assert found.top1_agreement.value == 0.95 and found.kl_median.value == 0
    assert math.isclose(found.perplexity_original.value, math.e, rel_tol=1e-5)


def test_an_original_that_is_no_number_somewhere_flatters_nobody() -> None:
    passage = Passage(kind="k", ids=torch.zeros(1, 4, dtype=torch.long))
    sound = known([1.0, 1.0, 1.0]).float()
    broken = sound.clone()
    broken[1] = torch.nan
    found = summarize([score(passage, broken, sound)])
    assert found.broken_positions == 1 and math.isnan(found.kl.value) and math.isnan(found.perplexity_original.value)


def test_a_model_that_is_wholly_destroyed_still_has_a_summary() -> None:
    passage = Passage(kind="k", ids=torch.zeros(1, 3, dtype=torch.long))
    original = known([1.0, 1.0]).float()
    found = summarize([score(passage, original, torch.full_like(original, torch.nan))] * 3)
    assert found.tokens == 0 and found.broken_positions == 6 and math.isnan(found.kl.value)
    assert found.top1_agreement.value == 0 and summarize([]).tokens == 0


def test_long_passages_count_more_and_intervals_hold_their_value(llama: Loaded, some: list[Passage]) -> None:
    scores = [score(p, logits_of(llama.model, p), logits_of(llama.model, p).roll(1, -1)) for p in some]
    found = summarize(scores)
    assert math.isclose(found.kl.value, sum(s.kl.sum() for s in scores) / sum(s.tokens for s in scores), rel_tol=1e-6)
    for reading in (found.kl, found.perplexity, found.top1_agreement, found.kl_median, found.delta_p_rms):
        assert reading.low is not None and reading.high is not None
        assert reading.low <= reading.value <= reading.high and reading.n == found.tokens
    assert summarize(scores) == found


def scores_of(draws: np.random.Generator, kind: str, length: int) -> quality.Score:
    kl, plain = draws.lognormal(-3, 1.3, length), draws.exponential(3, length)
    nll, marks = plain + draws.normal(0, 0.2, length), draws.random((3, length)) < 0.8
    floats = [each.astype(np.float32) for each in (kl, nll, plain)]
    return quality.Score(
        kind=kind,
        kl=floats[0],
        nll=floats[1],
        nll_original=floats[2],
        same_top=marks[0],
        right=marks[1],
        right_original=marks[2],
    )


def test_four_thousand_tokens_are_summed_up_while_nobody_waits() -> None:
    draws = np.random.default_rng(0)
    scores = [scores_of(draws, kind, 170) for _ in range(4) for kind in "abcdef"]
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        found = summarize(scores)
        seconds.append(time.perf_counter() - started)
    assert found.tokens == 4080 and len(found.by_kind) == 6 and min(seconds) < 0.01


def test_more_tokens_narrow_the_interval() -> None:
    draws = np.random.default_rng(1)
    scores = [scores_of(draws, "a", 256) for _ in range(16)]
    found = [summarize(scores[:count]).kl for count in (1, 4, 16)]
    widths = [math.log(each.high / each.low) for each in found if each.high and each.low]
    assert widths == sorted(widths, reverse=True) and widths[2] < 0.6 * widths[0]


def test_an_original_known_on_more_tokens_steadies_the_perplexity() -> None:
    draws = np.random.default_rng(2)
    scores = [scores_of(draws, "a", 128) for _ in range(64)]
    long = quality.mean_nll([s.nll_original for s in scores])
    short, steadied = summarize(scores[:6]), summarize(scores[:6], long)
    truth = summarize(scores)
    assert steadied.perplexity_original.value == truth.perplexity_original.value
    assert steadied.perplexity_original.n == 64 * 128 and steadied.perplexity.n == 6 * 128
    assert (steadied.perplexity.how, short.perplexity.how) == ("estimated", "measured")
    assert steadied.ln_ppl_ratio == short.ln_ppl_ratio
    error, error_short = (abs(each.perplexity.value - truth.perplexity.value) for each in (steadied, short))
    assert error < error_short / 3
    low, high = steadied.perplexity.low, steadied.perplexity.high
    assert low is not None and high is not None and low < truth.perplexity.value < high
    assert high - low < ((short.perplexity.high or 0) - (short.perplexity.low or 0)) / 3


def test_slices_are_those_of_their_texts_alone_worst_first() -> None:
    draws = np.random.default_rng(3)
    scores = [scores_of(draws, kind, 64) for _ in range(3) for kind in "abc"]
    found = {part.kind: part for part in quality.by_kind(scores)}
    for kind, part in found.items():
        alone = summarize([s for s in scores if s.kind == kind])
        assert part.kl == alone.kl and part.top1_agreement == alone.top1_agreement
    levels = [part.kl.value for part in quality.by_kind(scores)]
    assert levels == sorted(levels, reverse=True)


def test_the_noise_floor_is_above_nothing_below_damage_and_leaves_the_model_alone(
    llama: Loaded, some: list[Passage]
) -> None:
    before = logits_of(llama.model, some[0]).clone()
    floors = list(quality.noise_floor(llama.model, some, 40))
    assert len(floors) == 3 and floors[-1].how == "simulated" and floors[-1].n == 29 + 1 + 16
    assert torch.equal(before, logits_of(llama.model, some[0]))
    assert list(quality.noise_floor(llama.model, some, 40)) == floors
    assert not any(module._forward_hooks for module in llama.model.modules())
    assert 0 < floors[-1].value < judge(llama, Recipe(bits=4, quant="rtn"), some).kl.value / 3


def test_the_verdict_compares_the_lower_end_with_the_floor(llama: Loaded, some: list[Passage]) -> None:
    scores = [score(p, logits_of(llama.model, p), logits_of(llama.model, p) * 1.01) for p in some]
    assert summarize(scores).verdict == "no noise floor"
    kl = summarize(scores).kl
    assert kl.low is not None and kl.low < kl.value
    for value, verdict in ((kl.low * 0.9, "distinguishable"), (kl.low * 1.1, "not distinguishable")):
        floor = quality.Reading(value=value, unit="nats", how="simulated")
        assert summarize(scores, floor=floor).verdict == verdict


def test_passages_take_turns_by_kind_and_start_with_the_first_token(llama: Loaded) -> None:
    found = passages(llama.tokenizer, {"a": ["cat", "dog"], "b": ["mat"], "c": []}, longest=4)
    assert [p.kind for p in found] == ["a", "b", "a"]
    assert all(p.ids[0, 0] == llama.tokenizer.bos_token_id and p.ids.shape[1] <= 4 for p in found)


def test_a_long_text_is_cut_into_windows_and_none_of_it_is_lost(llama: Loaded) -> None:
    text = "the cat sat on the mat and waited for the rain"
    found = passages(llama.tokenizer, {"a": [text]}, longest=4)
    ids = llama.tokenizer(text).input_ids
    windows = [ids[at : at + 3] for at in range(0, len(ids), 3)]
    assert sorted(p.ids[0, 1:].tolist() for p in found) == sorted(windows)
    assert all(p.ids[0, 0] == llama.tokenizer.bos_token_id and p.ids.shape[1] <= 4 for p in found)


def test_any_first_part_lies_evenly_over_a_text(llama: Loaded) -> None:
    """The first four of sixteen windows are one from each quarter."""
    text = "".join(map(chr, range(0x41, 0x41 + 16)))
    found = passages(llama.tokenizer, {"a": list(text)}, longest=4)
    order = [text.index(llama.tokenizer.decode(p.ids[0, 1:])) for p in found]
    assert order[0] == 0 and sorted(order) == list(range(16))
    assert {place // 4 for place in order[:4]} == {0, 1, 2, 3} and {place // 2 for place in order[:8]} == set(range(8))


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


def test_contributions_add_up_to_the_whole_token_by_token(llama: Loaded, some: list[Passage]) -> None:
    alone = {"bits": Recipe(bits=3, quant="rtn"), "pruning": Recipe(sparsity=0.5, prune="magnitude")}
    whole = Recipe(bits=3, quant="rtn", sparsity=0.5, prune="magnitude")

    def scores(recipe: Recipe) -> list[quality.Score]:
        model = settle(compress(llama.model, recipe, Facts()))
        return [score(p, logits_of(llama.model, p), logits_of(model, p)) for p in some]

    known = {name: scores(recipe) for name, recipe in alone.items()}
    together = scores(whole)
    found = quality.contributions(known, together)
    total = sum(reading.value for reading in found.alone.values()) + found.interaction.value
    assert (
        total == pytest.approx(found.together.value, abs=1e-6) and found.together.value == summarize(together).kl.value
    )
    fewer = quality.contributions({name: each[:2] for name, each in known.items()}, together)
    assert fewer.together.n == sum(p.predicted for p in some[:2])
