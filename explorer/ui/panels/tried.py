"""Settings tried so far: everything that was measured since the start, the files to keep it in, and a report on one."""

from base64 import b64encode
from collections.abc import Iterable, Iterator
from functools import partial
from html import escape

import gradio as gr

from explorer.formats import report
from explorer.studies import session
from explorer.ui.asks import Ask
from explorer.ui.desk import Desk
from explorer.ui.markup import number, paragraph, table
from explorer.ui.stage import OWN, QUICK, Stage, html
from explorer.ui.view import Found, Status
from explorer.ui.words import words
from explorer.values.measurement import Measurement
from explorer.workbench.workbench import Workbench

WORDS = words("tried")


def place(stage: Stage) -> None:
    """Two buttons, and below the link to a report and the table."""
    html(paragraph(WORDS["hint"]))
    with gr.Row():
        button = gr.Button(WORDS["button"], size="sm", scale=0, min_width=200, elem_id="show-session")
        asked = gr.Button(WORDS["report"], size="sm", scale=0, min_width=200, elem_id="make-report")
    saved, answer, desk = stage.answer("report-link"), stage.answer("session-table"), stage.desk
    stage.later(lambda: button.click(lambda: settings(desk.bench), None, answer, api_name="session", **OWN, **QUICK))
    stage.later(lambda: stage.study(asked.click, partial(reported, desk), saved, "report"))


def reported(desk: Desk, ask: Ask) -> Iterator[Found]:
    """A link to the report on the setting that was asked for; on the original, that of the best that was measured."""
    work = report.steps(desk.bench, ask.recipe)
    while True:
        try:
            share = next(work)
        except StopIteration as end:
            line = Status(WORDS.say("reported", words=end.value[0].words()), "done")
            yield f'<p class="links">{link("report.html", "text/html", end.value[1])}</p>', line
            return
        yield None, Status(WORDS.say("reporting", share=f"{share * 100:.0f}"), "busy")


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
    files = (("session.csv", "text/csv", as_csv), ("session.json", "application/json", as_json))
    links = " ".join(link(*file) for file in files)
    names = [row.recipe.words() for row in some]
    return f'<p class="links">{links}</p>' + table(
        "tried", WORDS["title"], WORDS["note"], WORDS["columns"], names, cells
    )


def link(name: str, kind: str, text: str) -> str:
    """Saves a text under a name; the text travels in the link."""
    return (
        f'<a class="save" download="{name}" href="data:{kind};base64,{b64encode(text.encode()).decode()}">'
        f"{escape(WORDS['save'].format(name=name))}</a>"
    )
