"""The one status line, and the button where a slider waits."""

import gradio as gr

from explorer.ui import markup
from explorer.ui.stage import Stage
from explorer.ui.view import Status, View
from explorer.ui.words import words

WORDS = words("status")


def place(stage: Stage) -> None:
    """Below all else; the style sheet keeps it in sight."""
    stage.status.value = markup.status(Status(WORDS.say("loading", message=""), "loading"))
    stage.status.render()
    stage.follow(stage.status, draw)
    apply = gr.Button(WORDS["apply"], variant="primary", size="sm", elem_id="apply")
    stage.later(lambda: stage.run(apply.click))


def draw(view: View) -> str | None:
    """The sentence of this view."""
    return markup.status(view.status) if view.status else None
