"""Two texts side by side: which words differ, and up to where they are the same."""

from difflib import SequenceMatcher
from html import escape


def pane(title: str, detail: str, text: str, other: str, *, side: str) -> str:
    """One model's text, with the words marked that the other text does not have at that place."""
    body = marked(text, other) if text else '<span class="faint">…</span>'
    return (
        f'<section class="pane {side}" aria-label="{escape(title)}"><h2>{escape(title)}'
        f' <span class="detail">{escape(detail)}</span></h2><div class="text" tabindex="0">{body}</div></section>'
    )


def marked(text: str, other: str) -> str:
    """Escaped text; words that differ from the other text's are in <mark>. A text still being written is not blamed
    for words that the other has not reached yet."""
    mine, theirs = text.split(), other.split()
    if not theirs:
        return escape(text)
    pieces = []
    for kind, start, end, from_, _ in SequenceMatcher(None, mine, theirs, autojunk=False).get_opcodes():
        run = escape(" ".join(mine[start:end]))
        if run:
            beyond = from_ >= len(theirs) and kind == "delete"
            pieces.append(run if kind == "equal" or beyond else f"<mark>{run}</mark>")
    return " ".join(pieces)


def same_words(text: str, other: str) -> int | None:
    """How many words at the start are the same; None where the texts are equal."""
    if text == other:
        return None
    mine, theirs = text.split(), other.split()
    return next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
