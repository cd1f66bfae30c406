"""A report as one Markdown file, its pictures inside it as data."""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

from explorer.formats.report_contents import Cell, Line, Report, Section, Table
from explorer.values.reading import Reading
from explorer.values.units import plain


def draw(report: Report, words: Mapping[str, Any]) -> str:
    """The whole file."""
    named = words["headings"]
    parts = [f"# {_escaped(report.title)}", f"*{_escaped(report.subtitle)}*"]
    parts += [f"## {named['question']}", _escaped(report.question)]
    parts += [f"## {named['answer']}", " ".join(map(_line, report.answer)), words["made"]]
    parts.append("\n".join(f"- {how}: {told}" for how, told in words["badges"].items()))
    for section in report.sections:
        parts += _section(section, report.subtitle, named)
    return "\n\n".join(parts) + "\n"


def number(reading: Reading, interval: bool = False) -> str:
    """A Reading, how it was obtained, and where asked its ends."""
    ends = [end for end in (reading.low, reading.high) if end is not None]
    told = f", {' to '.join(plain(reading, end) for end in ends)}" if interval and len(ends) == 2 else ""
    return f"{plain(reading, reading.value)} ({reading.how}{told})"


def _section(section: Section, subtitle: str, named: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {_escaped(section.title)}"
    yield from map(_line, section.lines)
    if section.picture:
        yield f"![{section.title}](data:image/svg+xml;base64,{b64encode(section.picture.encode()).decode()})"
    if section.table:
        yield _table(section.table, named["unknown"])
    for pair in section.texts:
        yield f"### {_escaped(named['prompt'].format(prompt=pair.prompt))}"
        for name, text in ((named["original"], pair.original), (subtitle, pair.compressed)):
            yield f"**{_escaped(name)}**"
            yield _quoted(text or named["nothing"])
    yield from map(_line, section.notes)


def _table(table: Table, unknown: str) -> str:
    rows = [tuple(map(_escaped, table.columns)), ("---",) * len(table.columns)]
    rows += [tuple(_cell(cell, unknown) for cell in row) for row in table.rows]
    if table.marked is not None:
        number, name, *rest = rows[table.marked + 2]
        rows[table.marked + 2] = (number, f"**{name}**", *rest)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(cell: Cell, unknown: str) -> str:
    if cell is None:
        return unknown
    return (
        number(cell, interval=True) if isinstance(cell, Reading) else _line((cell,) if isinstance(cell, str) else cell)
    )


def _line(line: Line) -> str:
    return "".join(number(piece) if isinstance(piece, Reading) else _escaped(piece) for piece in line)


def _escaped(words: str) -> str:
    """Words that no reader of Markdown takes for a mark or a tag."""
    return re.sub(r"([\\`*_{}\[\]<>#|!&~])", r"\\\1", " ".join(words.split()) if "\n" in words else words)


def _quoted(text: str) -> str:
    """A model's text, line by line behind four spaces: code, in which nothing is a mark."""
    return "\n".join(f"    {line}" for line in text.splitlines())
