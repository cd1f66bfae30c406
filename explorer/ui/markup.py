"""Readings → HTML. Every number goes through `number`, which draws the badge from its Reading, so none can appear
without one; all text is escaped. Knows no gradio, no torch, no model."""

from collections.abc import Iterable
from dataclasses import replace
from html import escape

from explorer.ui.view import Status
from explorer.ui.words import words
from explorer.values.reading import BUSY, Reading
from explorer.values.units import plain


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
        title += f"; {words('markup')['busy']}"
    return (
        f'<span class="number">{escape(plain(reading, reading.value))}{escape(suffix)}</span>'
        f'<span class="badge {reading.how}" title="{escape(title)}">{reading.how}</span>'
    )


def why(group: str) -> str:
    """A question mark that opens what the glossary says of a group of words."""
    said = escape(words("glossary")["ask"])
    return f'<button type="button" class="ask-why" popovertarget="why-{group}" aria-label="{said}">?</button>'


def bar(share: float) -> str:
    """A bar of up to 10 em; what is taken away is hatched."""
    width = 0.0 if share != share else 10 * min(abs(share), 1.0)
    return f'<i class="part {"less" if share < 0 else "more"}" style="width:{width:.2f}em"></i>'


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


def status(line: Status) -> str:
    """The status line; its state is for tests and styles."""
    return f'<p class="status" role="status" data-state="{line.state}">{escape(line.sentence)}</p>'


def paragraph(sentence: str) -> str:
    """What a control or a table is for."""
    return f'<p class="source">{escape(sentence)}</p>'
