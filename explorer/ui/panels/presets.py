"""Settings that are worth a look, one button each."""

from typing import Any

import gradio as gr

from explorer.ui.stage import QUICK, Stage
from explorer.values.presets import PRESETS


def place(stage: Stage) -> None:
    """A button sets the controls, then the setting runs at once."""
    with gr.Row(elem_classes="presets"):
        buttons = {name: gr.Button(name, size="sm", min_width=80) for name in PRESETS}

    def arrows() -> None:
        for name, button in buttons.items():

            def choose(name: str = name) -> Any:
                return list(stage.desk.preset(name))

            chosen = button.click(choose, None, stage.recipe, api_visibility="private", **QUICK)
            shown = stage.preview(chosen.then, api_visibility="private")
            stage.run(shown.then)

    stage.later(arrows)
