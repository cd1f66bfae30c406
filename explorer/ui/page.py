"""What the page consists of, from top to bottom. Each panel draws itself and its arrows: adding one is its file, its
table of words and its line here."""

import importlib
from collections.abc import Sequence
from types import ModuleType

import gradio as gr

from explorer.ui import endpoints, pictures
from explorer.ui.desk import Desk
from explorer.ui.panels import (
    address,
    calibration,
    cards,
    header,
    model,
    plot,
    presets,
    scenes,
    sliders,
    status,
    texts,
    verdict,
)
from explorer.ui.stage import Stage
from explorer.ui.words import words
from explorer.workbench.workbench import Workbench

WORDS = words("page")
QUESTIONS = (  # about the setting, in the first tab; their answers stand below all of them
    "questions",
    "figures",
    "words",
    "layers",
    "matrix",
    "speed",
    "tried",
    "leaving",
)
TABS = (  # each a tab of its own
    "blind",
    "rival",
    "budget",
    "requirements",
)


def build(bench: Workbench, alone: bool = True, models: Sequence[str] | None = None) -> gr.Blocks:
    """The page of one workbench; `alone` where it is served to this computer only. `models`: the only ones that may be
    opened in its place; None: any, where one is alone."""
    gr.set_static_paths([pictures.PLOTLY])
    with gr.Blocks(title="Size explorer", analytics_enabled=False, fill_width=True, delete_cache=(3600, 3600)) as page:
        stage = Stage(page, Desk(bench, alone), alone, None if alone and models is None else (models or [bench.name]))
        model.place(stage)
        header.place(stage)
        with gr.Row(elem_id="desk", equal_height=False):
            with gr.Column(scale=0, min_width=304, elem_id="controls"):
                presets.place(stage)
                calibration.place(stage)
                sliders.place(stage)
            with gr.Column(scale=1, min_width=320, elem_id="results"):
                verdict.place(stage)
                with gr.Row(elem_id="numbers", equal_height=True):
                    cards.place(stage)
                    plot.place(stage)
                texts.place(stage)
        with gr.Accordion(WORDS["details"], open=False, elem_id="detail"):
            with gr.Tab(WORDS["this"]):
                for name in QUESTIONS:
                    panel(name).place(stage)
                stage.place_answers()
            for name in TABS:
                with gr.Tab(panel(name).WORDS["tab"]) as stage.tab:
                    panel(name).place(stage)
        scenes.place(stage)
        status.place(stage)
        address.place(stage)
        endpoints.place(stage.desk)
        stage.connect()
    page.queue(max_size=64)
    return page


def panel(name: str) -> ModuleType:
    """A panel by its file's name: it has `place(stage)`, and in a tab of its own WORDS["tab"]."""
    return importlib.import_module(f"explorer.ui.panels.{name}")
