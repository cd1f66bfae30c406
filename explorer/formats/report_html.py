"""A report as one HTML file: its style and pictures inside it, no script, nothing asked of the network. All words are
escaped, for models write them."""

from collections.abc import Iterable, Mapping
from html import escape
from itertools import takewhile
from os.path import commonprefix
from typing import Any

from explorer import assets
from explorer.formats.report_contents import Cell, Line, Report, Section, Table
from explorer.values.reading import Reading
from explorer.values.units import plain
from explorer.values.written import Pair

POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # what the file may do, whatever is in it


def draw(report: Report, words: Mapping[str, Any]) -> str:
    """The whole file."""
    named, body = words["headings"], "".join(_section(each, report.subtitle, words) for each in report.sections)
    answer = " ".join(_line(each) for each in report.answer)
    badges = "".join(
        f'<li><span class="badge {how}">{how}</span> {escape(told)}</li>' for how, told in words["badges"].items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(report.title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{assets.read('report.css')}</style></head><body><main><header><h1>{escape(report.title)}</h1>"
        f'<p class="setting">{escape(report.subtitle)}</p></header>'
        f'<section class="question"><h2>{escape(named["question"])}</h2><p>{escape(report.question)}</p></section>'
        f'<section class="answer"><h2>{escape(named["answer"])}</h2><p>{answer}</p></section>'
        f"<aside><p>{escape(words['made'])}</p><ul>{badges}</ul></aside>{body}</main></body></html>\n"
    )


def number(reading: Reading, interval: bool = False) -> str:
    """A Reading with its badge, and where asked its ends below."""
    low, high = reading.low, reading.high
    ends = f"{plain(reading, low)} to {plain(reading, high)}" if low is not None and high is not None else ""
    title = "; ".join(filter(None, (reading.how, ends, f"n = {reading.n:,}" if reading.n else "")))
    value = escape(plain(reading, reading.value))
    return (
        f'<span class="reading" title="{escape(title)}"><span class="number">{value}</span>'
        f'<span class="badge {reading.how}">{reading.how}</span></span>'
        + (f'<small class="ends">{escape(ends)}</small>' if interval and ends else "")
    )


def _line(line: Line) -> str:
    return "".join(number(piece) if isinstance(piece, Reading) else escape(piece) for piece in line)


def _section(section: Section, subtitle: str, words: Mapping[str, Any]) -> str:
    named = words["headings"]
    parts = [f"<p>{_line(each)}</p>" for each in section.lines]
    parts += [f"<figure>{section.picture}</figure>"] if section.picture else []
    parts += [_table(section.table, named["unknown"])] if section.table else []
    parts += [_pair(pair, subtitle, named) for pair in section.texts]
    parts += [f'<p class="note">{escape(named["same"])}</p>'] if section.texts else []
    parts += [f'<p class="note">{_line(each)}</p>' for each in section.notes]
    return f'<section class="{section.name}"><h2>{escape(section.title)}</h2>{"".join(parts)}</section>'


def _table(table: Table, unknown: str) -> str:
    head = "".join(f'<th scope="col">{escape(word)}</th>' for word in table.columns)
    rows = "".join(_row(row, place == table.marked, unknown) for place, row in enumerate(table.rows))
    return f"<table>{f'<thead><tr>{head}</tr></thead>' if any(table.columns) else ''}<tbody>{rows}</tbody></table>"


def _row(row: Iterable[Cell], marked: bool, unknown: str) -> str:
    first, *rest = (_cell(cell, unknown) for cell in row)
    cells = "".join(f"<td>{cell}</td>" for cell in rest)
    return f'<tr{" class=marked" if marked else ""}><th scope="row">{first}</th>{cells}</tr>'


def _cell(cell: Cell, unknown: str) -> str:
    if cell is None:
        return f'<span class="unknown">{escape(unknown)}</span>'
    if isinstance(cell, Reading):
        return number(cell, interval=True)
    return escape(cell) if isinstance(cell, str) else _line(cell)


def _pair(pair: Pair, subtitle: str, named: Mapping[str, Any]) -> str:
    same = shared(pair)
    texts = [(named["original"], pair.original), (named["compressed"].format(words=subtitle), pair.compressed)]
    both = "".join(
        f'<div><h4>{escape(name)}</h4><p class="text"><span class="same">{escape(text[:same])}</span>'
        f"{escape(text[same:] if text else named['nothing'])}</p></div>"
        for name, text in texts
    )
    asked = escape(named["prompt"].format(prompt=pair.prompt))
    return f'<article><h3>{asked}</h3><div class="pair">{both}</div></article>'


def shared(pair: Pair) -> int:
    """Characters up to which both texts say the same, in whole words."""
    same = commonprefix([pair.original, pair.compressed])
    if pair.original == pair.compressed:
        return len(same)
    return len(same) - len(list(takewhile(lambda sign: not sign.isspace(), reversed(same))))
