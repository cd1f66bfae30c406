"""Records → HTML. Every number goes through `number`, which draws the badge from its Reading, so none can appear
without one. All text from models, files and people is escaped here. Knows no gradio, no torch, no model."""

import tomllib
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import replace
from difflib import SequenceMatcher
from html import escape
from typing import Any

from explorer import assets
from explorer.recipe import Recipe
from explorer.records import (
    BUSY,
    STOPPED,
    Cost,
    Footprint,
    Measurement,
    Piece,
    Quality,
    Reading,
    Speed,
)

WORDS: dict[str, Any] = tomllib.loads(assets.read("words.toml"))


def number(reading: Reading | None, suffix: str = "") -> str:
    """A Reading as text with its badge; an ellipsis where it is not known yet."""
    if reading is None:
        return '<span class="number unknown">…</span>'
    details = {"measured": "measured on this machine", "calculated": "exact arithmetic on the shapes"}
    title = details.get(reading.how, reading.how)
    if reading.low is not None and reading.high is not None:
        title += f"; {plain(reading, reading.low)} to {plain(reading, reading.high)}"
    if reading.n:
        title += f"; n = {reading.n:,}"
    if reading.unit in ("ms", "µs") and reading.spread > BUSY:
        title += f"; {WORDS['notes']['busy']}"
    return (
        f'<span class="number">{escape(plain(reading, reading.value))}{escape(suffix)}</span>'
        f'<span class="badge {reading.how}" title="{escape(title)}">{reading.how}</span>'
    )


def plain(reading: Reading, value: float) -> str:
    """A value in the unit that people read: bytes as MB, counts as millions, shares as per cent."""
    if value != value:
        return "not a number"
    match reading.unit:
        case "bytes":
            return f"{value / 1e6:,.1f} MB" if value < 9.995e8 else f"{value / 1e9:,.2f} GB"
        case "weights":
            return f"{value / 1e6:,.1f} M" if value < 9.995e8 else f"{value / 1e9:,.1f} billion"
        case "USD":
            return f"{value:,.2f} USD" if value < 100 else f"{value:,.0f} USD"
        case "GPUs":
            return f"{value:,.0f} ×"
        case "kWh" | "kg" | "g" | "hours":
            return f"{value:,.3g} {reading.unit}" if value < 100 else f"{value:,.0f} {reading.unit}"
        case "FLOP":
            return f"{value / 1e9:,.3f} G" if value < 1e15 else f"{value:.1e}"
        case "tokens" if value >= 1e9:
            return f"{value / 1e9:,.0f} billion"
        case "share":
            return f"{value:.1%}".replace("%", " %")
        case "×":
            return f"{value:.2f}×"
        case "ms":
            return f"{value:,.2f} ms" if value < 1 else f"{value:,.1f} ms" if value < 100 else f"{value:,.0f} ms"
        case "µs":
            return f"{value:,.0f} µs"
        case "bytes/s":
            return f"{value / 1e9:,.1f} GB/s"
        case "J":
            return f"{value:.3g} J"
        case "nats":
            return f"{value:.4f}" if value < 0.1 else f"{value:,.2f}"
        case "tokens/s":
            return f"{value:,.1f}"
        case _:
            return f"{value:,.2f}" if value < 1e4 else f"{value:.1e}"


def header(source: str, notes: list[str], links: str = "") -> str:
    """The question, where else to go, and which model this is."""
    ready = " data-ready" if source else ""  # from then on nothing more will push the page down
    told = f'<p class="source"{ready}>{escape(source)} {escape(" ".join(notes))}</p>'
    return f"<h1>{escape(WORDS['title'])}</h1>{links}{told}"


def cards(
    recipe: Recipe,
    size: Footprint,
    cost: Cost,
    known: Measurement | None,
    original: Measurement | None,
    told: Reading | None = None,
) -> str:
    """The four numbers, all of one setting, whose name they carry; `told` is the distance that was predicted."""
    words = WORDS["cards"]
    speed = known.speed if known else None
    quality = known.quality if known else None
    body = (
        _card(
            "size",
            words["size"],
            size.file_bytes,
            [("times smaller", size.compression_ratio, ""), ("weights kept", size.parameters, "")],
            WORDS["notes"]["size_same"] if recipe == Recipe() else "",
        )
        + _time_card(words["time"], speed, original.speed if original else None, " ".join(size.notes))
        + _quality_card(words["quality"], quality, told)
        + _card(
            "memory",
            words["memory"],
            size.resident_bytes,
            [("FLOP/token", cost.flops_per_token, ""), ("without zeros", cost.useful_flops_per_token, "")],
            WORDS["notes"]["waiting"] if size.resident_bytes is None else "weights, as the kernels hold them",
        )
    )
    return f'<section class="cards" data-setting="{escape(recipe.words())}" aria-label="numbers">{body}</section>'


def _card(
    kind: str,
    title: str,
    headline: Reading | None,
    rows: list[tuple[str, Reading | None, str]],
    note: str,
    beside: str = "",
) -> str:
    lines = "".join(
        f'<div class="row"><dt>{escape(name)}</dt><dd>{number(reading, suffix)}</dd></div>'
        for name, reading, suffix in rows
    )
    return (
        f'<article class="card" data-card="{kind}"><h2>{escape(title)}</h2>'
        f'<p class="headline">{number(headline)}{beside}</p><dl>{lines}</dl>'
        f'<p class="note" title="{escape(note)}">{escape(note)}</p></article>'
    )


def _time_card(title: str, speed: Speed | None, original: Speed | None, why_not: str) -> str:
    rows: list[tuple[str, Reading | None, str]] = [
        ("tokens/s", speed.tokens_per_second if speed else None, ""),
        (f"prefill {speed.prompt_tokens}" if speed else "prefill", speed.prefill_ms if speed else None, ""),
        ("original", original.ms_per_token if original else None, ""),
    ]
    note = WORDS["notes"]["waiting"]
    if speed:
        note = why_not or f"kernel: {speed.kernel}, {speed.threads} threads"
        if speed.busy:
            note = f"{WORDS['notes']['busy']}; {note}"
    return _card("time", title, speed.ms_per_token if speed else None, rows, note)


def _quality_card(title: str, quality: Quality | None, told: Reading | None) -> str:
    rows: list[tuple[str, Reading | None, str]] = [
        ("perplexity", quality.perplexity if quality else None, ""),
        ("original", quality.perplexity_original if quality else None, ""),
        ("same next word", quality.top1_agreement if quality else None, ""),
    ]
    note = WORDS["notes"]["waiting"]
    if quality:
        verdict = next(words for limit, words in WORDS["notes"]["quality"] if not quality.kl.value >= limit)
        note = f"KL: {verdict} ({quality.tokens:,} tokens)"
        if quality.broken_positions:
            note = WORDS["status"]["broken"]
    elif told:
        note = WORDS["notes"]["predicted"]
    was = f' <span class="was">{escape(WORDS["notes"]["was"])} {number(told)}</span>' if quality and told else ""
    return _card("quality", title, quality.kl if quality else told, rows, note, was)


def pane(title: str, detail: str, text: str, other: str, *, side: str) -> str:
    """One model's text, with the words marked that the other text does not have at that place."""
    body = marked(text, other) if text else '<span class="faint">…</span>'
    return (
        f'<section class="pane {side}" aria-label="{escape(title)}"><h2>{escape(title)}'
        f' <span class="detail">{escape(detail)}</span></h2><div class="text" tabindex="0">{body}</div></section>'
    )


def written_by(recipe: Recipe | None, piece: Piece, other: str) -> str:
    """The pane of the original (None) or of a recipe's model, as far as it has written."""
    title = "Original" if recipe is None else f"Compressed: {recipe.words()}"
    detail = f"{piece.tokens} tokens"
    if piece.stopped not in ("", STOPPED):
        detail += f" · {piece.stopped}"
    text = piece.text or ("(the model ended at once)" if piece.stopped else "")
    return pane(title, detail, text, other, side="original" if recipe is None else "compressed")


def marked(text: str, other: str) -> str:
    """Escaped text; words that differ from the other text's are in <mark>. A text still being written is not blamed
    for words that the other has not reached yet."""
    mine, theirs = text.split(), other.split()
    if not theirs:
        return escape(text)
    pieces = []
    for kind, start, end, from_, _ in SequenceMatcher(None, mine, theirs, autojunk=False).get_opcodes():
        run = escape(" ".join(mine[start:end]))
        if run:
            beyond = from_ >= len(theirs) and kind == "delete"
            pieces.append(run if kind == "equal" or beyond else f"<mark>{run}</mark>")
    return " ".join(pieces)


def same_words(text: str, other: str) -> int | None:
    """How many words at the start are the same; None where the texts are equal."""
    if text == other:
        return None
    mine, theirs = text.split(), other.split()
    return next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))


def calibration(sentence: str, share: float) -> str:
    """How far the calibration is; the width of the bar is the share done."""
    return (
        f'<p class="calibration" data-done="{share:.2f}"><span class="bar"><i style="width:{share:.0%}"></i></span>'
        f"{escape(sentence)}</p>"
    )


def bar(share: float) -> str:
    """A bar of up to 10 em; what is taken away is hatched."""
    width = 0.0 if share != share else 10 * min(abs(share), 1.0)
    return f'<i class="part {"less" if share < 0 else "more"}" style="width:{width:.2f}em"></i>'


def session(rows: Iterable[Measurement], as_csv: str, as_json: str) -> str:
    """Every setting that was tried, and links that save the whole table."""
    words, some = WORDS["session"], list(rows)
    cells = [
        [
            number(row.size.file_bytes),
            number(row.speed.ms_per_token if row.speed else None),
            number(row.quality.kl if row.quality else None),
            number(row.quality.perplexity if row.quality else None),
        ]
        for row in some
    ]
    links = " ".join(
        f'<a class="save" download="{name}" href="data:{kind};base64,{b64encode(text.encode()).decode()}">'
        f"{escape(words['save'].format(name=name))}</a>"
        for name, kind, text in (("session.csv", "text/csv", as_csv), ("session.json", "application/json", as_json))
    )
    names = [row.recipe.words() for row in some]
    return f'<p class="links">{links}</p>' + table(
        "tried", words["title"], words["note"], words["columns"], names, cells
    )


def table(
    kind: str, title: str, note: str, columns: Iterable[str], names: Iterable[str], rows: Iterable[Iterable[str]]
) -> str:
    """A table that is titled and explained; cells are HTML already."""
    head = "".join(f'<th scope="col">{escape(word)}</th>' for word in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, cells in zip(names, rows, strict=True)
    )
    return region(kind, title, note, f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def region(kind: str, title: str, note: str, body: str) -> str:
    """A part of the page that can be scrolled, titled and explained; `body` is HTML already."""
    told = f"<p>{escape(note)}</p>" if note else ""
    return (
        f'<div class="layers {kind}" tabindex="0" role="region" aria-label="{escape(title)}">'
        f"<h2>{escape(title)}</h2>{told}{body}</div>"
    )


def end(reading: Reading | None, at: float | None) -> Reading | None:
    """One end of a Reading's spread or interval, as a Reading."""
    return replace(reading, value=at, low=None, high=None) if reading and at is not None else None


def status(sentence: str, state: str) -> str:
    """The one status line; `state` is for tests and styles: loading, ready, busy, done, stopped, error."""
    return f'<p class="status" role="status" data-state="{state}">{escape(sentence)}</p>'


def say(name: str, **values: Any) -> str:
    """A status sentence from the words file."""
    sentence: str = WORDS["status"][name]
    return sentence.format(**values)
