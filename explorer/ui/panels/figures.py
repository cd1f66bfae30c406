"""The numbers in full: statistics, kinds of text, where the bytes are, what each technique did."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from explorer.ui import drawings, pictures
from explorer.ui.asks import Ask
from explorer.ui.desk import Desk
from explorer.ui.markup import bar, end, number, table
from explorer.ui.pictures import About
from explorer.ui.stage import Stage
from explorer.ui.view import Found, Status
from explorer.ui.words import words
from explorer.values.footprint import Breakdown
from explorer.values.quality import Contributions, Quality, Slice
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.workbench.techniques import apart, in_turn

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
    about = About.of(desk.bench.name, recipe)
    yield _busy(None, "zipping")
    original = desk.known.numbers(Recipe()).size.file_bytes
    first = bytes_by_part(desk.bench.breakdown(recipe), original, about)
    yield _busy(first, "floor")
    for _ in desk.bench.noise_floor():
        yield _busy(first, "floor")
    for share in desk.bench.read_original():
        yield _busy(first, "reading", share=f"{share * 100:.0f}")
    tables = first
    for quality in desk.bench.evaluate(recipe, ALL_TOKENS):
        tables = first + breaks_first(quality.by_kind, about) + statistics(quality)
        yield tables, Status(words("status").say("judging", tokens=quality.tokens), "busy")
    if apart(recipe):
        sizes = {name: desk.bench.preview(step).file_bytes for name, step in in_turn(recipe).items()}
        tables += saved(original, sizes, about)
        for part in desk.bench.contributions(recipe, APART_TOKENS):
            if isinstance(part, float):
                yield _busy(tables, "apart", share=f"{part * 100:.0f}")
            else:
                tables += did(part, about)
    tables += beside(desk.bench.beside(recipe))
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


def breaks_first(by_kind: Iterable[Slice], about: About) -> str:
    """What breaks first, drawn: one bar for each kind of text."""
    named, some = WORDS["slices"], list(by_kind)
    rows = {_kind(part): part.kl for part in some}
    drawn = drawings.bars("what-breaks-first", named["title"], named["drawn"], rows, named["unit"])
    return pictures.shown(drawn, about, slices(some)) if some else ""


def slices(by_kind: Iterable[Slice]) -> str:
    """What breaks first: one row for each kind of text, the most damaged first."""
    named, some = WORDS["slices"], list(by_kind)
    rows = [
        [*map(number, (part.kl, end(part.kl, part.kl.low), end(part.kl, part.kl.high)))]
        + [*map(number, (part.top1_agreement, part.lost, part.gained))]
        for part in some
    ]
    return table("slices", named["title"], named["note"], named["columns"], map(_kind, some), rows)


def _kind(part: Slice) -> str:
    return str(WORDS["slices"]["kinds"].get(part.kind, part.kind))


def bytes_by_part(breakdown: Breakdown, original: Reading, about: About) -> str:
    """Where the bytes are, drawn: areas by part, within the original's."""
    named = WORDS["parts"]
    rows = dict(sorted(_parts(breakdown).items(), key=lambda row: -row[1].value))
    words = {"before": named["original"], "now": named["whole"]}
    drawn = drawings.areas(
        "where-the-bytes-are", named["title"], named["drawn"], rows, original, breakdown.file_bytes, words
    )
    return pictures.shown(drawn, about, parts(breakdown, original))


def _parts(breakdown: Breakdown) -> dict[str, Reading]:
    return {WORDS["parts"]["names"].get(name, name): reading for name, reading in breakdown.parts.items()}


def parts(breakdown: Breakdown, original: Reading) -> str:
    """File bytes by part, with their share, and below them the whole file, the original's, its entropy and what zip
    makes of it."""
    named, whole = WORDS["parts"], breakdown.file_bytes
    known = _parts(breakdown)
    known |= {named["whole"]: whole, named["original"]: original, named["entropy"]: breakdown.entropy_bytes}
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


def saved(original: Reading, sizes: dict[str, Reading], about: About) -> str:
    """What each technique did to the file, drawn: from the original's bytes by steps to the setting's. `sizes`: the
    file with one technique more each time."""
    named, befores = WORDS["saved"], [original, *sizes.values()]
    steps = {
        named["names"].get(name, name): replace(after, value=after.value - before.value, how="calculated")
        for (name, after), before in zip(sizes.items(), befores, strict=False)
    }
    ends = {named["original"]: original}, {named["whole"]: befores[-1]}
    drawn = drawings.waterfall(
        "what-each-technique-saved", named["title"], named["note"], ends[0], steps, ends[1], named["unit"], 1e6
    )
    known = ends[0] | steps | ends[1]
    cells = [[number(reading)] for reading in known.values()]
    return pictures.shown(drawn, about, table("saved", named["title"], named["note"], named["columns"], known, cells))


def did(found: Contributions, about: About) -> str:
    """What each technique did to the predictions, drawn: each alone, and what lies between them, up to the whole."""
    named = WORDS["contributions"]
    alone = {named["names"].get(name, name): reading for name, reading in found.alone.items()}
    steps = alone | {named["interaction"]: found.interaction}
    drawn = drawings.waterfall(
        "what-each-technique-did",
        named["title"],
        named["note"],
        {},
        steps,
        {named["together"]: found.together},
        named["unit"],
    )
    return pictures.shown(drawn, about, contributions(found))


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
