"""Where the time goes: the parts are all there is, and watching changes nothing."""

import time

import pytest
import torch

from explorer.layers.targets import siblings, targets
from explorer.measure import parts
from explorer.measure.parts import Clock, hooked, watched, where
from explorer.model.compressing import compress, settle
from explorer.model.decode import Continuation, step_of
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.performance import PARTS
from explorer.values.recipe import Recipe


def test_the_parts_add_up_to_the_total(any_model: Loaded) -> None:
    found = where(any_model.model, targets(any_model.model), prompt_tokens=6, decode_steps=8)
    assert tuple(found.parts) == PARTS and found.total.n == 8 and found.total.how == "measured"
    assert sum(part.value for part in found.parts.values()) == pytest.approx(found.total.value, rel=1e-9)
    assert all(part.value > 0 for part in found.parts.values())


def test_a_compressed_model_has_the_same_parts(llama: Loaded) -> None:
    model = settle(compress(llama.model, Recipe(bits=4, head_bits=4), Facts()), siblings(llama.model))
    found = where(model, targets(llama.model), prompt_tokens=6, decode_steps=4, batch=2)
    assert all(part.value > 0 for part in found.parts.values())


def test_time_counts_where_it_is_spent(llama: Loaded) -> None:
    step, clock = step_of(llama.model), Clock()
    assert step
    twin = watched(step, clock)
    slow = twin.blocks[0].down
    twin.blocks[0] = twin.blocks[0]._replace(down=clock.around("mlp", lambda x: (time.sleep(0.02), slow(x))[1]))
    text = Continuation(llama.model, step=twin)
    text.feed(torch.ones(1, 4, dtype=torch.long))
    clock.ms.clear()
    text.feed(torch.ones(1, 1, dtype=torch.long))
    assert clock.ms["mlp"] >= 20 and clock.ms["mlp"] > 2 * clock.ms["attention"]


def test_the_watched_step_says_the_same_and_leaves_the_model_s_own_alone(llama: Loaded, ids: torch.Tensor) -> None:
    step = step_of(llama.model)
    assert step
    before = list(step.blocks)
    twin = watched(step, Clock())
    own, other = Continuation(llama.model), Continuation(llama.model, step=twin)
    for text in (own, other):
        text.feed(ids[:, :8])
    assert torch.equal(own.feed(ids[:, 8:9]), other.feed(ids[:, 8:9])) and step.blocks == before


def test_the_hooks_are_gone_afterwards(gpt2: Loaded) -> None:
    where(gpt2.model, targets(gpt2.model), prompt_tokens=4, decode_steps=2)
    clock = Clock()
    with pytest.raises(KeyError), hooked(gpt2.model, targets(gpt2.model), clock):
        raise KeyError
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in gpt2.model.modules())


def test_the_middle_half_is_averaged() -> None:
    laps = [parts.Counter({"mlp": ms, "framework": 1.0}) for ms in (1.0, 2.0, 4.0, 100.0)]
    found = parts._parts(laps)
    assert found.parts["mlp"].value == 3 and found.total.value == 4
    assert found.parts["head"].value == 0
