"""Take it with you: what each format would make of the setting, said before anything is written; and the files, written
on this computer and opened again."""

from collections.abc import Iterator, Sequence
from functools import partial
from html import escape
from pathlib import Path

import gradio as gr

from explorer.formats.catalogue import FORMATS, formats
from explorer.formats.export import export, judged
from explorer.ui.asks import Ask
from explorer.ui.desk import Desk
from explorer.ui.markup import number, paragraph, region, table
from explorer.ui.stage import Stage, html, typed_list
from explorer.ui.view import Found, Status
from explorer.ui.words import words
from explorer.values.departure import Departure, Offer

WORDS = words("leaving")
LONGEST = 1000


def place(stage: Stage) -> None:
    """What each format makes of it; a format, a folder and a button that writes it."""
    html(paragraph(WORDS["hint"]))
    with gr.Row(elem_id="leaving-ask"):
        look = gr.Button(WORDS["look"], size="sm", scale=0, min_width=200, elem_id="show-formats")
        name = typed_list(list(FORMATS), value="gguf", label=WORDS["format"], elem_id="format", scale=0, min_width=200)
        folder = gr.Textbox("", label=WORDS["folder"], placeholder=WORDS["placeholder"], max_lines=1, elem_id="folder")
        write = gr.Button(WORDS["write"], size="sm", scale=0, min_width=120, elem_id="write-file")
    answer, desk = stage.answer("formats-table"), stage.desk

    def arrows() -> None:
        stage.study(look.click, partial(offered, desk), answer, "formats")
        stage.study(write.click, partial(written, desk, stage.alone), answer, "export", [name, folder])

    stage.later(arrows)


def offered(desk: Desk, ask: Ask) -> Iterator[Found]:
    """A row a format."""
    yield None, Status(WORDS.say("looking"), "busy")
    found = desk.bench.engine.step(lambda: formats(desk.bench, ask.recipe))
    yield offers(found), Status(WORDS.say("looked", words=ask.recipe.words()), "done")


def written(desk: Desk, allowed: bool, ask: Ask, name: object, folder: object) -> Iterator[Found]:
    """The file of one format in a folder that is not there yet; Stop leaves nothing."""
    if not allowed:
        raise ValueError(WORDS["not_here"])
    typed = str(folder or "").strip()[:LONGEST]
    out = Path(typed).expanduser() if typed else None
    asked = judged([str(name)], out)
    job = export(desk.bench, ask.recipe, asked, out)
    try:
        while True:
            under_way = next(job)
            share = f"{under_way.share * 100:.0f}"
            yield None, Status(WORDS.say("writing", what=under_way.words, share=share), "busy")
    except StopIteration as end:
        yield departed(end.value), Status(WORDS.say("written", folder=end.value[0].folder), "done")
    finally:
        job.close()


def offers(found: Sequence[Offer]) -> str:
    """What each keeps exactly, what it must round or expand, its bytes, and who opens it."""
    rows = [
        [
            number(each.bytes) if each.bytes else "",
            *map(escape, (each.keeps, each.problem or each.rounds, each.opened_by)),
        ]
        for each in found
    ]
    names = [each.format for each in found]
    return table("formats", WORDS["title"], WORDS["note"], WORDS["columns"], names, rows)


def departed(found: Sequence[Departure]) -> str:
    """Where the files are, and how far what was written is from the setting."""
    told = []
    for each in found:
        check = each.check
        words = WORDS["unchecked"] if check is None else WORDS["checked"]
        told.append(f"<p>{escape(each.folder)}: {escape(words)} {number(check.kl) if check else ''}</p>")
    return region("departed", WORDS["there"], "", "".join(told))
