"""A report for who decides and does not experiment: one file on one setting of a session. What is lacking of a setting
is measured first; nothing else is in it than what that session measured, and arithmetic, which says so."""

import tomllib
from collections.abc import Generator, Iterator
from typing import Any

from explorer import assets
from explorer.formats import report_html, report_markdown
from explorer.formats.report_contents import LARGE, chosen, contents
from explorer.studies import pairs, session
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

FORMATS = {"html": report_html.draw, "md": report_markdown.draw}
TOKENS = 1000


def report(bench: Workbench, recipe: Recipe | None = None) -> str:
    """HTML on a setting of an open model; None: the smallest that was measured and is close to the original."""
    work = steps(bench, recipe)
    while True:
        try:
            next(work)
        except StopIteration as end:
            html: str = end.value[1]
            return html


def steps(bench: Workbench, recipe: Recipe | None = None) -> Generator[float, None, tuple[Recipe, str]]:
    """As `report`, with the setting that it is about; yields the share done. ValueError, one sentence, where there is
    nothing to report."""
    if recipe is None or recipe == Recipe():
        recipe = chosen(bench.history(), None).recipe
    yield from complete(bench, recipe)
    return recipe, written(session.as_json(bench), recipe)


def complete(bench: Workbench, recipe: Recipe) -> Iterator[float]:
    """Whatever a report needs of a setting and was not found yet: its distance, its times, three pairs of texts."""
    known = bench.measured(recipe)
    for share in bench.apply(recipe):
        yield share / 4
    if not (known and known.quality):
        for quality in bench.evaluate(recipe, TOKENS):
            bench.record(bench.variant(recipe), quality=quality)
            yield 0.25 + min(quality.tokens / TOKENS, 1.0) / 4
    if not (known and known.speed):
        for original, compressed in bench.time(recipe):
            bench.record(bench.variant(Recipe()), speed=original)
            bench.record(bench.variant(recipe), speed=compressed)
            yield 0.5
    for share in pairs.write(bench, recipe):
        yield 0.5 + share / 2


def written(saved: str, recipe: Recipe | None = None, name: str = "html", against: str = LARGE) -> str:
    """A report in a format, from the text of a session.json. ValueError, one sentence, where that cannot be read, lacks
    the setting, or the catalogue lacks the model that is set `against`."""
    words: dict[str, Any] = tomllib.loads(assets.read("words/report.toml"))
    return FORMATS[name](contents(session.opened(saved), recipe, words, against), words)
