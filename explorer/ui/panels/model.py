"""Which model: what is on this computer, what of the catalogue fits, or any name, folder or .gguf file; what opening it
takes, said before; and the news for all who look when it changes."""

from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr

from explorer.studies.outlook import Outlook, outlook
from explorer.ui.desk import failure
from explorer.ui.markup import number, paragraph, status
from explorer.ui.stage import OWN, QUICK, Stage, html, typed_list
from explorer.ui.switch import LONGEST_NAME, Switch
from explorer.ui.view import Status
from explorer.ui.words import words

WORDS = words("model")
NEWS_SECONDS = 3
TURN: dict[str, Any] = {"concurrency_id": "switch", "concurrency_limit": 1, "show_progress": "hidden"}
AGAIN = "() => window.renewed()"


def place(stage: Stage) -> None:
    """A door below the model's name; behind it a list that may be typed into, what it takes, Open and Stop."""
    switch = Switch(stage.desk, stage.models)
    news = html(told(stage, switch), elem_id="model-news")
    with gr.Accordion(WORDS["door"], open=False, elem_id="picker") as door:
        with gr.Row(elem_id="picker-ask"):
            name = typed_list([], label=WORDS["name"], info=WORDS["name_info"], elem_id="model", scale=1, min_width=300)
            button = gr.Button(WORDS["button"], variant="primary", size="sm", scale=0, elem_id="open-model")
            stop = gr.Button(WORDS["stop"], size="sm", scale=0, elem_id="stop-opening")
        answer = html(paragraph(WORDS["hint"]), elem_id="model-outlook")

    def fill(request: gr.Request) -> Any:
        asked = str(dict(request.query_params).get("model", ""))[:LONGEST_NAME]
        bench = stage.desk.bench
        other = asked if asked and asked != bench.name else ""
        return gr.Dropdown(switch.names(), value=other or bench.name), gr.Accordion(open=bool(other or bench.problem))

    def look(wanted: Any) -> str:
        try:
            return drawn(outlook(switch.checked(wanted), stage.desk.bench))
        except ValueError as problem:
            return status(failure(problem))

    def opening(request: gr.Request, wanted: Any) -> Iterator[str]:
        who = WORDS["here"] if stage.alone else WORDS["visitor"].format(address=request.client.host)
        steps = switch.open(wanted, who)
        try:
            for sentence in steps:
                if stage.stopped(request):
                    steps.close()  # type: ignore[attr-defined]
                    yield status(Status(WORDS["stopped"], "stopped"))
                    return
                yield status(Status(sentence, "busy"))
            yield status(Status(WORDS["opened"].format(name=stage.desk.bench.name), "done"))
        except ValueError as problem:
            yield status(failure(problem))

    def arrows() -> None:
        stage.opened.then(fill, None, [name, door], api_visibility="private", **QUICK)
        name.change(look, name, answer, concurrency_id="outlook", show_progress="hidden", api_name="outlook", **OWN)
        asked = button.click(opening, name, answer, api_name="open", trigger_mode="once", **OWN, **TURN)
        asked.then(lambda: told(stage, switch), None, news, api_visibility="private", **QUICK).then(
            None, None, None, js=AGAIN
        )
        stop.click(stage.halt, None, stage.parts, api_visibility="private", **QUICK)
        clock = gr.Timer(NEWS_SECONDS)
        heard = clock.tick(lambda: told(stage, switch), None, news, api_visibility="private", **QUICK)
        heard.then(None, None, None, js=AGAIN)

    stage.later(arrows)


def told(stage: Stage, switch: Switch) -> str:
    """Which model is open now, for the page to compare with its own; and in words what is about to take its place."""
    now = f'data-model="{stage.desk.number}" data-name="{escape(stage.desk.bench.name)}"'
    now += f' data-setting="{escape(switch.setting)}"' if switch.setting else ""
    return f'<p class="news" role="status" {now}>{escape(switch.coming)}</p>'


def drawn(found: Outlook) -> str:
    """What it takes, and why it cannot be opened where that is known."""
    rows = [
        (WORDS["takes"][word], reading)
        for word in ("parameters", "download", "memory", "seconds")
        if (reading := getattr(found, word)) is not None and (word != "download" or reading.value)
    ]
    told = "".join(f"<span>{escape(word)} {number(reading)}</span>" for word, reading in rows)
    if found.problem:
        return status(failure(found.problem)) + f'<p class="takes">{told}</p>'
    here = "" if found.download and found.download.value else f"<span>{escape(WORDS['takes']['nothing'])}</span>"
    return f'<p class="takes">{here}{told}</p>'
