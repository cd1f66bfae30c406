"""The numbers in full as HTML: statistics, kinds of text, where the bytes are, what each technique did, every layer."""

from collections.abc import Iterable
from dataclasses import replace

from explorer.records import Breakdown, Contributions, LayerReading, Quality, Reading, Slice
from explorer.ui.views import WORDS, bar, end, number, table


def layer_table(rows: list[LayerReading], whole: Reading | None) -> str:
    """Every compressed matrix: what it costs, how far off its outputs are, and its share of what the model lost."""
    words = WORDS["layers"]
    total = sum(row.kl.value for row in rows) or 1.0
    ordered = sorted(rows, key=lambda row: -row.kl.value)
    cells = [
        [
            f"{row.shape[0]}×{row.shape[1]}",
            str(row.rank or "–"),
            str(row.bits),
            *map(number, (row.zeros, row.file_bytes, row.output_error, row.kl, _share(row.kl, total))),
        ]
        for row in ordered
    ]
    note = words["note"].format(total=f"{total:.4f}", whole=f"{whole.value:.4f}" if whole else "…")
    return table("each", words["title"], note, words["columns"], [row.name for row in ordered], cells)


def _share(part: Reading, total: float) -> Reading:
    return replace(part, value=part.value / total, unit="share", how="calculated")


def statistics(quality: Quality) -> str:
    """The statistics block of llama.cpp's perplexity tool, by its names, and whether the difference can be told."""
    words = WORDS["statistics"]
    rows = []
    for name in words["rows"]:
        reading: Reading | None = getattr(quality, name)
        ends = (reading.low, reading.high) if reading else (None, None)
        rows.append([number(reading), *(number(end(reading, each)) for each in ends)])
    tokens = quality.tokens + quality.broken_positions
    verdict = words["verdict"][quality.verdict].format(tokens=f"{tokens:,}", broken=f"{quality.broken_positions:,}")
    return table("statistics", words["title"], verdict, words["columns"], words["rows"].values(), rows)


def slices(by_kind: Iterable[Slice]) -> str:
    """What breaks first: one row for each kind of text, the most damaged first."""
    words, some = WORDS["slices"], list(by_kind)
    names = [words["kinds"].get(part.kind, part.kind) for part in some]
    rows = [[number(part.kl), number(part.top1_agreement), number(part.lost), number(part.gained)] for part in some]
    return table("slices", words["title"], words["note"], words["columns"], names, rows)


def parts(breakdown: Breakdown) -> str:
    """File bytes by part, with their share, and below them the whole file, its entropy and what zip makes of it."""
    words, whole = WORDS["parts"], breakdown.file_bytes
    known = {words["names"].get(name, name): reading for name, reading in breakdown.parts.items()}
    known |= {words["whole"]: whole, words["entropy"]: breakdown.entropy_bytes}
    if breakdown.zip_bytes:
        known[words["zip"]] = breakdown.zip_bytes
    rows = [[number(reading), number(_share(reading, whole.value))] for reading in known.values()]
    note = "; ".join(breakdown.notes) or words["note"]
    return table("parts", words["title"], note, words["columns"], known, rows)


def beside(found: dict[int, tuple[Reading, Reading]]) -> str:
    """What a text takes in memory beside the weights, by its length."""
    words = WORDS["beside"]
    names = [words["row"].format(tokens=f"{tokens:,}") for tokens in found]
    return table(
        "beside", words["title"], words["note"], words["columns"], names, [map(number, r) for r in found.values()]
    )


def contributions(found: Contributions) -> str:
    """What each technique of a combined setting does alone, what they do together, and what lies between."""
    words = WORDS["contributions"]
    known = {words["names"].get(name, name): reading for name, reading in found.alone.items()}
    known |= {words["interaction"]: found.interaction, words["together"]: found.together}
    widest = max((abs(reading.value) for reading in known.values()), default=0.0) or 1.0
    rows = [[number(reading), bar(reading.value / widest)] for reading in known.values()]
    return table("contributions", words["title"], words["note"], words["columns"], known, rows)
