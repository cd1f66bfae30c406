"""Each question mark has an explanation, and each term on the cards is explained."""

import re

from explorer.ui.markup import why
from explorer.ui.panels import cards, glossary
from explorer.ui.view import Numbers, View
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench


def test_every_question_mark_opens_something(workbench: Workbench) -> None:
    recipe = Recipe(bits=4)
    known = workbench.measure(recipe, tokens=10, rounds=1)
    numbers = Numbers(
        recipe=recipe, size=known.size, cost=workbench.cost(recipe), known=known, original=None, predicted=None
    )
    drawn = (cards.draw(View(numbers=numbers)) or "") + why("methods")
    placed = "".join(map(glossary.explanation, glossary.GROUPS))
    asked = set(re.findall(r'popovertarget="(why-\w+)"', drawn))
    assert asked == set(re.findall(r' id="(why-\w+)"', placed)) and len(asked) == 5
    for group in glossary.GROUPS[:4]:
        assert glossary.WORDS[group]["title"] in drawn


def test_terms_are_text_and_names_of_methods_stand_out() -> None:
    said = glossary.explanation("methods")
    assert "<em>gptq</em>" in said and "*" not in said
