"""What lessons say is measured again, on the default model."""

from collections.abc import Iterator

import pytest

from explorer.studies.lessons import Expectation, Step, all_lessons
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

STEPS = [(lesson.name, step) for lesson in all_lessons() for step in lesson.steps]


def test_there_are_lessons_with_names_and_expectations() -> None:
    names = [lesson.name for lesson in all_lessons()]
    assert len(set(names)) == len(names) >= 5
    for _, step in STEPS:
        assert step.expect and step.recipe.data_free and 2 <= len(step.options) <= 4
        assert step.say and step.ask.endswith("?") and step.then


@pytest.fixture(scope="module")
def default() -> Iterator[Workbench]:
    yield Workbench().load()


@pytest.mark.model
@pytest.mark.parametrize("name, step", STEPS, ids=lambda each: each if isinstance(each, str) else each.ask)
def test_what_a_lesson_says_is_so(default: Workbench, name: str, step: Step) -> None:
    for expected in step.expect:
        found = figure(default, step.recipe, expected)
        assert expected.low <= found <= expected.high, f"{name}: {expected.figure} is {found:.4f}"


def figure(bench: Workbench, recipe: Recipe, expected: Expectation) -> float:
    size = bench.variant(recipe).size
    if expected.figure == "compression":
        return size.compression_ratio.value
    if expected.figure == "memory":
        held, original = size.resident_bytes, bench.variant(Recipe()).size.resident_bytes
        assert held and original
        return held.value / original.value
    if expected.figure == "mlp share":
        found = bench.breakdown(recipe)
        return found.parts["mlp"].value / found.file_bytes.value
    *_, quality = bench.evaluate(recipe, 512)
    return quality.kl.value
