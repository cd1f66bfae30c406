"""What the page consists of, from top to bottom. Each panel draws itself and its arrows: adding one is its file, its
table of words and its line here."""

from types import ModuleType

import gradio as gr

from explorer.ui.desk import Desk
from explorer.ui.panels import (
    address,
    blind,
    budget,
    calibration,
    cards,
    figures,
    header,
    layers,
    matrix,
    plot,
    presets,
    requirements,
    rival,
    scenes,
    sliders,
    speed,
    status,
    texts,
    tried,
    words,
)
from explorer.ui.stage import Stage
from explorer.ui.words import words as words_of
from explorer.workbench.workbench import Workbench

WORDS = words_of("page")
QUESTIONS: list[ModuleType] = [figures, words, layers, matrix, speed, tried]  # about the setting, in the first tab
TABS: list[ModuleType] = [blind, rival, budget, requirements]


def build(bench: Workbench, alone: bool = True) -> gr.Blocks:
    """The page of one workbench; `alone` where it is served to this computer only."""
    gr.set_static_paths([plot.PLOTLY])
    with gr.Blocks(title="Size explorer", analytics_enabled=False, fill_width=True, delete_cache=(3600, 3600)) as page:
        stage = Stage(page, Desk(bench), alone)
        header.place(stage)
        with gr.Row(elem_id="desk", equal_height=False):
            with gr.Column(scale=0, min_width=304, elem_id="controls"):
                presets.place(stage)
                calibration.place(stage)
                sliders.place(stage)
            with gr.Column(scale=1, min_width=320, elem_id="results"):
                with gr.Row(elem_id="numbers", equal_height=True):
                    cards.place(stage)
                    plot.place(stage)
                texts.place(stage)
        with gr.Accordion(WORDS["details"], open=False, elem_id="detail"):
            with gr.Tab(WORDS["this"]):
                for panel in QUESTIONS:
                    panel.place(stage)
                stage.place_answers()
            for panel in TABS:
                with gr.Tab(panel.WORDS["tab"]) as stage.tab:
                    panel.place(stage)
        scenes.place(stage)
        status.place(stage)
        address.place(stage)
        stage.connect()
    page.queue(max_size=64)
    return page
