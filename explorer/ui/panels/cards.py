"""The four cards: size on disk, time per token, distance from the original, memory. All of one setting."""

from html import escape

from explorer.ui.markup import number, why
from explorer.ui.stage import Stage, html
from explorer.ui.view import Numbers, View
from explorer.ui.words import words
from explorer.values.performance import Speed
from explorer.values.quality import Quality
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import COST_CONTEXT

WORDS = words("cards")
EMPTY = '<section class="cards" aria-label="numbers">' + '<article class="card"></article>' * 4 + "</section>"

Rows = list[tuple[str, Reading | None, str]]


def place(stage: Stage) -> None:
    """One part that follows the setting."""
    stage.follow(html(EMPTY, elem_id="cards", min_width=320), draw)


def draw(view: View) -> str | None:
    """All four, and which setting they are of."""
    if view.numbers is None:
        return None
    now = view.numbers
    body = _size(now) + _time(now) + _quality(now) + _memory(now)
    return f'<section class="cards" data-setting="{escape(now.recipe.words())}" aria-label="numbers">{body}</section>'


def _size(now: Numbers) -> str:
    rows: Rows = [("times smaller", now.size.compression_ratio, ""), ("weights kept", now.size.parameters, "")]
    if now.size.active_parameters:
        rows += [("a token meets", now.size.active_parameters, ""), ("of the file", now.size.active_bytes, "")]
    note = WORDS["notes"]["size_same"] if now.recipe == Recipe() else ""
    return _card("size", WORDS["size"], now.size.file_bytes, rows, note)


def _memory(now: Numbers) -> str:
    rows: Rows = [
        (f"FLOP, token {COST_CONTEXT + 1}", now.cost.flops_per_token, ""),
        ("without zeros", now.cost.useful_flops_per_token, ""),
    ]
    resident = now.size.resident_bytes
    note = WORDS["notes"]["waiting"] if resident is None else "weights, as the kernels hold them"
    return _card("memory", WORDS["memory"], resident, rows, note)


def _time(now: Numbers) -> str:
    speed: Speed | None = now.known.speed if now.known else None
    original = now.original.speed if now.original else None
    rows: Rows = [
        ("tokens/s", speed.tokens_per_second if speed else None, ""),
        (f"prefill {speed.prompt_tokens}" if speed else "prefill", speed.prefill_ms if speed else None, ""),
        ("original", original.ms_per_token if original else None, ""),
    ]
    note = WORDS["notes"]["waiting"]
    if speed:
        note = " ".join(now.size.notes) or f"kernel: {speed.kernel}, {speed.threads} threads"
        if speed.busy:
            note = f"{words('markup')['busy']}; {note}"
    return _card("time", WORDS["time"], speed.ms_per_token if speed else None, rows, note)


def _quality(now: Numbers) -> str:
    quality: Quality | None = now.known.quality if now.known else None
    told, notes = now.predicted, WORDS["notes"]
    rows: Rows = [
        ("perplexity", quality.perplexity if quality else None, ""),
        ("original", quality.perplexity_original if quality else None, ""),
        ("same next word", quality.top1_agreement if quality else None, ""),
    ]
    note = notes["waiting"]
    if quality:
        verdict = next(sentence for limit, sentence in notes["quality"] if not quality.kl.value >= limit)
        note = f"KL: {verdict} ({quality.tokens:,} tokens)"
        if quality.broken_positions:
            note = notes["broken"]
    elif told:
        note = notes["predicted"]
    was = f' <span class="was">{escape(notes["was"])} {number(told)}</span>' if quality and told else ""
    return _card("quality", WORDS["quality"], quality.kl if quality else told, rows, note, was)


def _card(kind: str, title: str, headline: Reading | None, rows: Rows, note: str, beside: str = "") -> str:
    lines = "".join(
        f'<div class="row"><dt>{escape(name)}</dt><dd>{number(reading, suffix)}</dd></div>'
        for name, reading, suffix in rows
    )
    return (
        f'<article class="card" data-card="{kind}"><h2>{escape(title)}{why(kind)}</h2>'
        f'<p class="headline">{number(headline)}{beside}</p><dl>{lines}</dl>'
        f'<p class="note" title="{escape(note)}">{escape(note)}</p></article>'
    )
