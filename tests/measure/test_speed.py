"""Timing: what is counted, not how fast it is."""

import time
from typing import Any

import pytest
import torch

from explorer.measure import machine, speed
from explorer.measure.speed import Stopwatch, time_in_turns
from explorer.model.opening import Loaded


@pytest.fixture
def watches(llama: Loaded) -> tuple[Stopwatch, Stopwatch]:
    return Stopwatch(llama.model, "dense"), Stopwatch(llama.model, "other")


def test_each_round_times_one_prefill_and_every_decode_step_of_both(watches: tuple[Stopwatch, Stopwatch]) -> None:
    assert list(time_in_turns(watches, rounds=3, decode_steps=4)) == [1, 2, 3]
    for watch in watches:
        assert len(watch.prefill) == 3 and len(watch.decode) == 12 and min(watch.prefill + watch.decode) > 0


def test_a_round_that_is_stopped_counts_for_nothing(watches: tuple[Stopwatch, Stopwatch]) -> None:
    asked = iter([*[False] * 9, *[True] * 99])  # in the second model's lap of the first round
    assert list(time_in_turns(watches, rounds=3, decode_steps=6, stopped=lambda: next(asked))) == []
    assert len(watches[0].rounds) == 1 and not watches[1].rounds


def test_warming_up_is_not_counted(watches: tuple[Stopwatch, Stopwatch]) -> None:
    watches[0].lap(torch.ones(1, 8, dtype=torch.long), 2, keep=False)
    assert watches[0].prefill == watches[0].decode == []


def test_the_two_models_take_turns_and_change_who_is_first(
    watches: tuple[Stopwatch, Stopwatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(
        Stopwatch,
        "lap",
        lambda self, prompt, steps, keep=True, **_: seen.append(self.kernel) if keep else None,
    )
    list(time_in_turns(watches, rounds=3))
    assert seen == ["dense", "other", "other", "dense", "dense", "other"]


def test_both_models_read_the_same_prompt(
    watches: tuple[Stopwatch, Stopwatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[Any] = []
    monkeypatch.setattr(
        Stopwatch, "lap", lambda self, prompt, steps, keep=True, **_: prompts.append(prompt) if keep else None
    )
    list(time_in_turns(watches, rounds=1))
    assert all(torch.equal(prompt, prompts[0]) for prompt in prompts)
    assert prompts[0].shape == (1, speed.PROMPT_TOKENS)


def test_tokens_a_second_are_the_inverse_of_ms_a_token(watches: tuple[Stopwatch, Stopwatch]) -> None:
    watch = watches[0]
    watch.prefill, watch.decode = [50.0], [10.0, 20.0, 40.0]
    found = watch.speed()
    assert found.ms_per_token.value == 20 and found.tokens_per_second.value == 50
    assert (found.tokens_per_second.low, found.tokens_per_second.high) == (1e3 / 40, 1e3 / 10)
    assert found.ms_per_token.n == found.tokens_per_second.n == 3 and found.prefill_ms.value == 50
    assert found.kernel == "dense" and found.threads == torch.get_num_threads()
    assert found.ms_per_token.how == "measured"


def test_two_texts_in_twice_the_time_are_as_many_tokens_a_second(watches: tuple[Stopwatch, Stopwatch]) -> None:
    list(time_in_turns(watches, rounds=1, decode_steps=2, prompt_tokens=8, batch=3))
    watches[0].decode = [20.0]
    found = watches[0].speed()
    assert (found.batch, found.prompt_tokens) == (3, 8) and found.tokens_per_second.value == 150


def test_the_ratio_is_the_other_s_time_over_this_one_s_round_by_round(watches: tuple[Stopwatch, Stopwatch]) -> None:
    base, other = watches
    base.prefill, base.decode, base.rounds = [40.0, 80.0], [9.0] * 4, [10.0, 30.0]
    other.prefill, other.decode, other.rounds = [20.0, 40.0], [9.0] * 4, [20.0, 60.0]
    found = other.speed(base)
    assert found.prefill_ratio and found.prefill_ratio.value == pytest.approx(2)
    assert found.decode_ratio and found.decode_ratio.value == pytest.approx(0.5) and found.decode_ratio.n == 2
    assert base.speed().decode_ratio is None


def test_a_prompt_beyond_the_context_is_cut(watches: tuple[Stopwatch, Stopwatch]) -> None:
    list(time_in_turns(watches, rounds=1, decode_steps=4, prompt_tokens=10**4))
    assert watches[0].prompt_tokens == 512 - 4


def test_a_longer_wait_is_a_longer_time() -> None:
    assert machine.timed(lambda: time.sleep(0.02)) >= 20
