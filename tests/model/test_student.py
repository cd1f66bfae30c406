"""A student begins as the model that it is a copy of, and a step on it is none on the model."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from explorer.methods import distill
from explorer.model import teach
from explorer.model.compressing import compress
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.model.student import Student
from explorer.values.recipe import Recipe

RECIPES = [Recipe(sparsity=0.5, bits=4), Recipe(bits=2, quant="awq"), Recipe(keep=0.5), Recipe(quant="nf4")]


@pytest.mark.parametrize("recipe", RECIPES, ids=Recipe.to_query)
def test_a_student_begins_where_its_model_is(
    llama32: Loaded, facts_of: Callable[[nn.Module], Facts], recipe: Recipe
) -> None:
    ids = torch.randint(2, 300, (3, 32), generator=torch.Generator().manual_seed(7))
    lessons, hurt = teach.read(llama32.model, ids), compress(llama32.model, recipe, facts_of(llama32.model))
    with torch.inference_mode():
        before = hurt(input_ids=ids).logits
    wanted = distill.divergence(before[:, :-1].flatten(0, 1), lessons.top.flatten(0, 1), lessons.log_p.flatten(0, 1))
    student = Student(hurt, everything=False)
    for value in (lambda each: each.value, lambda each: each.again(each.stored(each.value))):
        kl, _ = student.loss(student.given(value), lessons, [0, 1, 2])
        assert float(kl) == pytest.approx(float(wanted), rel=1e-3)
    for each in student.trained:
        each.put(each.stored(each.value + 1))
    with torch.inference_mode():
        assert torch.equal(hurt(input_ids=ids).logits, before)
        assert not torch.equal(student.healed(input_ids=ids).logits, before)
