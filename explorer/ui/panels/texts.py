"""What both models write: the prompt and how it is continued, Write and Stop, and the two texts side by side."""

from html import escape
from typing import Any

import gradio as gr

from explorer.ui.asks import Controls
from explorer.ui.stage import OWN, QUICK, Stage, html
from explorer.ui.view import View
from explorer.ui.word_diff import pane
from explorer.ui.words import words
from explorer.values.written import STOPPED, Piece

WORDS = words("texts")


def place(stage: Stage) -> None:
    """Controls above, both texts below them."""
    html(tries(), elem_id="tries")
    with gr.Row(elem_id="ask", equal_height=True):
        stage.prompt += controls()
        write = gr.Button(WORDS["write"], variant="primary", min_width=70, scale=0, elem_id="write")
        stop = gr.Button(WORDS["stop"], min_width=70, scale=0, elem_id="stop")
    with gr.Row(elem_id="panes", equal_height=True):
        for side, of in (("original", original), ("compressed", compressed)):
            stage.follow(html(pane(WORDS[side], "", "", "", side=side), min_width=320), of)

    def arrows() -> None:
        stage.run([write.click, stage.prompt[0].submit], name="write")
        stop.click(stage.halt, None, stage.parts, api_name="stop", **OWN, **QUICK)

    stage.later(arrows)


def tries() -> str:
    """A button for a prompt of each kind; pressed, the page writes after it."""
    kinds = "".join(
        f'<button type="button" data-prompt="{escape(prompt)}" title="{escape(prompt)}">{escape(kind)}</button>'
        for kind, prompt in WORDS["kinds"].items()
    )
    return f'<p class="tries"><span>{escape(WORDS["try"])}</span>{kinds}</p>'


def controls() -> list[Any]:
    """Prompt, length, seed, temperature and chat template, in the order of `Controls`."""
    plain = Controls()
    prompt = gr.Textbox(
        value=WORDS["first_prompt"],
        placeholder=WORDS["prompt_placeholder"],
        label=WORDS["prompt"],
        lines=1,
        max_lines=3,
        max_length=20_000,
        scale=6,
        elem_id="prompt",
    )
    with gr.Row(elem_classes="how", scale=4):
        length = gr.Number(plain.length, label=WORDS["length"], precision=0, min_width=64, elem_id="length")
        seed = gr.Number(plain.seed, label=WORDS["seed"], precision=0, min_width=64, elem_id="seed")
        temperature = gr.Number(
            plain.temperature, label=WORDS["temperature"], step=0.1, min_width=64, elem_id="temperature"
        )
        chat = gr.Checkbox(plain.chat, label=WORDS["chat"], min_width=64, elem_id="chat")
    return [prompt, length, seed, temperature, chat]


def original(view: View) -> str | None:
    """The original's text, as far as it is there."""
    if view.texts is None:
        return None
    return written(WORDS["original"], view.texts.original, view.texts.compressed, "original")


def compressed(view: View) -> str | None:
    """The text of the setting's model, and which setting it is."""
    if view.texts is None:
        return None
    title = f"{WORDS['compressed']}: {view.texts.recipe.words()}"
    return written(title, view.texts.compressed, view.texts.original, "compressed")


def written(title: str, piece: Piece, other: Piece, side: str) -> str:
    """One pane; why the text ended stands beside its length."""
    detail = f"{piece.tokens} tokens"
    if piece.stopped not in ("", STOPPED):
        detail += f" · {piece.stopped}"
    text = piece.text or ("(the model ended at once)" if piece.stopped else "")
    return pane(title, detail, text, other.text, side=side, whole=bool(other.stopped))
