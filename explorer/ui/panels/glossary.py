"""What the words on the cards and of the methods mean: a question mark opens a few sentences, which Esc or a click
elsewhere closes. The browser does it (the popover attribute); nothing is asked and nothing moves."""

import re
from html import escape

from explorer.ui.stage import Stage, html
from explorer.ui.words import words

WORDS = words("glossary")
GROUPS = ("size", "time", "quality", "memory", "methods")


def place(stage: Stage) -> None:
    """All explanations, none of which is seen before it is asked for."""
    html("".join(map(explanation, GROUPS)), elem_id="glossary")


def explanation(group: str) -> str:
    """The terms of a group with a sentence or three each; *names* of methods are emphasized."""
    title, terms, name = escape(WORDS[group]["title"]), WORDS[group]["terms"], f"why-{group}"
    told = "".join(f"<dt>{escape(term)}</dt><dd>{_emphasized(said)}</dd>" for term, said in terms.items())
    return (
        f'<div popover class="why" id="{name}" role="dialog" aria-label="{title}"><h2>{title}</h2><dl>{told}</dl>'
        f'<button type="button" popovertarget="{name}" popovertargetaction="hide">{escape(WORDS["close"])}</button>'
        "</div>"
    )


def _emphasized(sentence: str) -> str:
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", escape(sentence))
