"""Fused experts taken apart: the same numbers, whichever way a family stores them."""

import pytest
import torch
from torch import nn

from explorer.layers.experts import stacks_of
from explorer.layers.targets import targets
from explorer.layers.uniform import uniform
from tests.families import model_of

KINDS = ("mixtral", "gpt_oss", "llama4_text", "jetmoe", "nemotron_h", "aria_text", "qwen3_moe")


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(24)[None] + 5, use_cache=False).logits
    return found.float()


@pytest.mark.parametrize("kind", KINDS)
def test_taken_apart_a_model_predicts_the_same(kind: str) -> None:
    plain, apart = model_of(kind), uniform(model_of(kind)).requires_grad_(False)
    assert stacks_of(apart) and torch.equal(logits(plain), logits(apart))


@pytest.mark.parametrize("kind", KINDS)
def test_every_expert_by_itself_gives_what_all_together_give(kind: str) -> None:
    model = uniform(model_of(kind, dtype=torch.float32)).requires_grad_(False)
    together, met = logits(model), set[str]()
    for name, stack in stacks_of(model).items():
        for place, expert in enumerate(stack):
            expert.register_forward_hook(lambda *_, name=f"{name}.{place}": met.add(name))
    torch.testing.assert_close(logits(model), together, rtol=1e-3, atol=1e-3 * float(together.abs().max()))
    assert met


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_views_and_all_of_them_are_targets(kind: str) -> None:
    plain, model = model_of(kind), uniform(model_of(kind))
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.parameters())
    found = {target.name: target for target in targets(model)}
    for name, stack in stacks_of(model).items():
        for place, expert in enumerate(stack):
            assert found[f"{name}.{place}"].experts == len(stack) >= found[f"{name}.{place}"].active > 0
            whole = stack.whole
            assert whole is None or expert.weight.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()


def test_routers_are_no_targets() -> None:
    names = [target.name for target in targets(uniform(model_of("jetmoe")))]
    assert not [name for name in names if "router" in name]
