"""The original's text read by another model: exact against a plain loop, and nothing apart from itself."""

import pytest
import torch

from explorer.studies.tracing import trace
from explorer.values.prompt import Prompt
from explorer.values.recipe import Recipe
from explorer.values.written import Trace
from explorer.workbench.workbench import Workbench

PROMPT = Prompt(text="the cat", new_tokens=12, chat=False)


def whole(workbench: Workbench, recipe: Recipe, prompt: Prompt = PROMPT) -> Trace:
    *counts, found = trace(workbench, recipe, prompt)
    assert all(isinstance(count, int) for count in counts) and isinstance(found, Trace)
    return found


def test_the_original_is_not_apart_from_itself(workbench: Workbench) -> None:
    found = whole(workbench, Recipe())
    assert found.parts is None and found.again == found.text
    assert all(place.kl.value == 0 and place.original == place.compressed for place in found.places)


def test_up_to_where_they_part_both_would_say_the_same(workbench: Workbench) -> None:
    found = whole(workbench, Recipe(bits=2, quant="rtn"))
    assert found.parts is not None and found.text == "".join(place.word for place in found.places)
    assert all(p.compressed[0].word == p.original[0].word for p in found.places[: found.parts])


def test_each_place_is_what_a_plain_loop_finds(workbench: Workbench) -> None:
    recipe = Recipe(bits=3, quant="rtn")
    found = whole(workbench, recipe)
    tokenizer, models = workbench.loaded.tokenizer, (workbench.loaded.model, workbench.variant(recipe).model)
    ids = tokenizer("the cat", add_special_tokens=False)["input_ids"]
    if getattr(tokenizer, "add_bos_token", False):
        ids = [tokenizer.bos_token_id, *ids]
    written = [piece.token for piece in workbench.write(None, PROMPT)]
    for place, token in zip(found.places, written, strict=True):
        with torch.no_grad():
            p, q = (model(input_ids=torch.tensor([ids])).logits[0, -1].double().log_softmax(-1) for model in models)
        assert place.kl.value == pytest.approx(float((p.exp() * (p - q)).sum()), rel=0.05, abs=1e-3)
        assert place.original[0].share.value == pytest.approx(float(p.exp().max()), rel=0.05)
        ids.append(token)


def test_likeliest_words_come_first(workbench: Workbench) -> None:
    for place in whole(workbench, Recipe(bits=4, quant="rtn")).places:
        for guesses in (place.original, place.compressed):
            shares = [guess.share.value for guess in guesses]
            assert len(shares) == 5 and shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1
