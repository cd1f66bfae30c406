"""Lessons: predict, try, explain. A step shows a setting, asks before it is tried, and says afterwards why it came so;
what it claims stands in `expect`, which a test measures. Text in assets/lessons/, one file a lesson."""

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from explorer import assets
from explorer.values.recipe import Recipe

FIGURES = ("compression", "kl", "memory", "mlp share")


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A figure of the step's setting, and between which values it lies. compression: times smaller on disk; kl: nats;
    memory: of the original's; mlp share: of the file's bytes."""

    figure: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Step:
    """One question: what is done, three answers and the right one, the setting that shows it, and why it is so."""

    say: str
    ask: str
    options: tuple[str, ...]
    right: int
    recipe: Recipe
    then: str
    expect: tuple[Expectation, ...]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A few steps on one subject; `name` stands in its address."""

    name: str
    title: str
    about: str
    steps: tuple[Step, ...]


@cache
def all_lessons() -> tuple[Lesson, ...]:
    """In the order of their files."""
    return tuple(
        _lesson(file.stem.partition("-")[2], tomllib.loads(file.read_text(encoding="utf-8")))
        for file in sorted(assets.path("lessons").glob("*.toml"))
    )


def find(name: str) -> Lesson | None:
    """The lesson of this name, or None."""
    return next((lesson for lesson in all_lessons() if lesson.name == name), None)


def _lesson(name: str, content: dict[str, Any]) -> Lesson:
    steps = tuple(_step(dict(step)) for step in content["steps"])
    return Lesson(name=name, title=content["title"], about=content["about"], steps=steps)


def _step(content: dict[str, Any]) -> Step:
    recipe = Recipe.from_dict(dict(parse_qsl(content.pop("setting"))))
    expect = tuple(Expectation(**each) for each in content.pop("expect"))
    step = Step(**content | {"options": tuple(content["options"])}, recipe=recipe, expect=expect)
    assert 0 <= step.right < len(step.options) and all(each.figure in FIGURES for each in expect)
    return step
