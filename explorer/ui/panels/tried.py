"""Settings tried so far: everything that was measured since the start, and the files to keep it in."""

from base64 import b64encode
from collections.abc import Iterable
from html import escape

import gradio as gr

from explorer.studies import session
from explorer.ui.markup import number, paragraph, table
from explorer.ui.stage import OWN, QUICK, Stage, html
from explorer.ui.words import words
from explorer.values.measurement import Measurement
from explorer.workbench.workbench import Workbench

WORDS = words("tried")


def place(stage: Stage) -> None:
    """A button, and the table below."""
    html(paragraph(WORDS["hint"]))
    button = gr.Button(WORDS["button"], size="sm", scale=0, elem_id="show-session")
    answer, desk = stage.answer("session-table"), stage.desk
    stage.later(lambda: button.click(lambda: settings(desk.bench), None, answer, api_name="session", **OWN, **QUICK))


def settings(bench: Workbench) -> str:
    """The table and its files; '' before there is a model."""
    if not bench.ready.is_set():
        return ""
    return draw(bench.history(), session.as_csv(bench), session.as_json(bench))


def draw(rows: Iterable[Measurement], as_csv: str, as_json: str) -> str:
    """Every setting that was tried, and links that save the whole table."""
    some = list(rows)
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
        f"{escape(WORDS['save'].format(name=name))}</a>"
        for name, kind, text in (("session.csv", "text/csv", as_csv), ("session.json", "application/json", as_json))
    )
    names = [row.recipe.words() for row in some]
    return f'<p class="links">{links}</p>' + table(
        "tried", WORDS["title"], WORDS["note"], WORDS["columns"], names, cells
    )
