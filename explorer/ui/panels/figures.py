"""The numbers in full: statistics, kinds of text, where the bytes are, what each technique did."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from explorer.ui.asks import Ask
from explorer.ui.desk import Desk
from explorer.ui.markup import bar, end, number, table
from explorer.ui.stage import Stage
from explorer.ui.view import Found, Status
from explorer.ui.words import words
from explorer.values.footprint import Breakdown
from explorer.values.quality import Contributions, Quality, Slice
from explorer.values.reading import Reading
from explorer.workbench.techniques import apart

WORDS = words("figures")
ALL_TOKENS = 4096
APART_TOKENS = 1024  # on which each technique is judged by itself


def place(stage: Stage) -> None:
    """A button, and the tables below."""
    stage.question(WORDS, partial(found, stage.desk), ("measure-numbers", "numbers-table"), "numbers")


def found(desk: Desk, ask: Ask) -> Iterator[Found]:
    """Passage by passage, then the bytes, then the techniques."""
    recipe = ask.recipe
    yield from desk.applied(recipe)
    yield _busy(None, "floor")
    for _ in desk.bench.noise_floor():
        yield _busy(None, "floor")
    for share in desk.bench.read_original():
        yield _busy(None, "reading", share=f"{share * 100:.0f}")
    tables = ""
    for quality in desk.bench.evaluate(recipe, ALL_TOKENS):
        tables = statistics(quality) + slices(quality.by_kind)
        yield tables, Status(words("status").say("judging", tokens=quality.tokens), "busy")
    yield _busy(tables, "zipping")
    tables += parts(desk.bench.breakdown(recipe)) + beside(desk.bench.beside(recipe))
    if apart(recipe):
        for part in desk.bench.contributions(recipe, APART_TOKENS):
            if isinstance(part, float):
                yield _busy(tables, "apart", share=f"{part * 100:.0f}")
            else:
                tables += contributions(part)
    yield tables, Status(WORDS.say("done", words=recipe.words()), "done")


def _busy(tables: str | None, key: str, **values: object) -> Found:
    return tables, Status(WORDS.say(key, **values), "busy")


def statistics(quality: Quality) -> str:
    """The statistics block of llama.cpp's perplexity tool, by its names, and whether the difference can be told."""
    named = WORDS["statistics"]
    rows = []
    for name in named["rows"]:
        reading: Reading | None = getattr(quality, name)
        ends = (reading.low, reading.high) if reading else (None, None)
        rows.append([number(reading), *(number(end(reading, each)) for each in ends)])
    tokens = quality.tokens + quality.broken_positions
    verdict = named["verdict"][quality.verdict].format(tokens=f"{tokens:,}", broken=f"{quality.broken_positions:,}")
    return table("statistics", named["title"], verdict, named["columns"], named["rows"].values(), rows)


def slices(by_kind: Iterable[Slice]) -> str:
    """What breaks first: one row for each kind of text, the most damaged first."""
    named, some = WORDS["slices"], list(by_kind)
    names = [named["kinds"].get(part.kind, part.kind) for part in some]
    rows = [[number(part.kl), number(part.top1_agreement), number(part.lost), number(part.gained)] for part in some]
    return table("slices", named["title"], named["note"], named["columns"], names, rows)


def parts(breakdown: Breakdown) -> str:
    """File bytes by part, with their share, and below them the whole file, its entropy and what zip makes of it."""
    named, whole = WORDS["parts"], breakdown.file_bytes
    known = {named["names"].get(name, name): reading for name, reading in breakdown.parts.items()}
    known |= {named["whole"]: whole, named["entropy"]: breakdown.entropy_bytes}
    if breakdown.zip_bytes:
        known[named["zip"]] = breakdown.zip_bytes
    rows = [[number(reading), number(_share(reading, whole.value))] for reading in known.values()]
    note = "; ".join(breakdown.notes) or named["note"]
    return table("parts", named["title"], note, named["columns"], known, rows)


def beside(found: dict[int, tuple[Reading, Reading]]) -> str:
    """What a text takes in memory beside the weights, by its length."""
    named = WORDS["beside"]
    names = [named["row"].format(tokens=f"{tokens:,}") for tokens in found]
    return table(
        "beside", named["title"], named["note"], named["columns"], names, [map(number, r) for r in found.values()]
    )


def contributions(found: Contributions) -> str:
    """What each technique of a combined setting does alone, what they do together, and what lies between."""
    named = WORDS["contributions"]
    known = {named["names"].get(name, name): reading for name, reading in found.alone.items()}
    known |= {named["interaction"]: found.interaction, named["together"]: found.together}
    widest = max((abs(reading.value) for reading in known.values()), default=0.0) or 1.0
    rows = [[number(reading), bar(reading.value / widest)] for reading in known.values()]
    return table("contributions", named["title"], named["note"], named["columns"], known, rows)


def _share(part: Reading, total: float) -> Reading:
    return replace(part, value=part.value / total, unit="share", how="calculated")
