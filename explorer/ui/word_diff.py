"""Two texts side by side: which words differ, and up to where they are the same. In scripts that put no spaces between
words each character counts as one. What is white space stays as it was written."""

import re
from difflib import SequenceMatcher
from html import escape
from itertools import takewhile
from typing import NamedTuple

# Thai, Lao, Myanmar, Khmer; kana, Han and their signs; each with the marks that stand above or below it
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uffef"
MARKS = "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u17b4-\u17d3\u3099\u309a"
ASTRAL = "\U00020000-\U0003ffff"
WORD = re.compile(rf"(\s*)([{UNSPACED}{ASTRAL}][{MARKS}]*|[^\s{UNSPACED}{ASTRAL}]+|$)")


class Word(NamedTuple):
    """A word and the white space before it; the last one of a text may be empty."""

    space: str
    letters: str


def words_of(text: str) -> list[Word]:
    """All words, which put together give the text again."""
    return [found for each in WORD.finditer(text) if any(found := Word(*each.groups()))]


def pane(title: str, detail: str, text: str, other: str, *, side: str, whole: bool = False) -> str:
    """One model's text, with the words marked that the other text does not have at that place; `whole`: the other text
    has ended."""
    body = marked(text, other, whole) if text else '<span class="faint">…</span>'
    copy = '<button class="copy" type="button">Copy</button>' if text else ""
    return (
        f'<section class="pane {side}" aria-label="{escape(title)}"><h2>{escape(title)}'
        f' <span class="detail">{escape(detail)}</span>{copy}</h2>'
        f'<div class="text" dir="auto" tabindex="0">{body}</div></section>'
    )


def marked(text: str, other: str, whole: bool = False) -> str:
    """Escaped text; words that differ from the other text's, and white space that does before equal ones, are in
    <mark>. Unless the other is `whole`, a text is not blamed for words that the other has not reached yet."""
    mine, theirs = words_of(text), words_of(other)
    if not theirs:
        return escape(text)
    pieces = list[str]()
    letters, others = [word.letters for word in mine], [word.letters for word in theirs]
    for kind, start, end, from_, _ in SequenceMatcher(None, letters, others, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces += map(_equal, mine[start:end], theirs[from_ : from_ + end - start])
        elif end > start:
            run = "".join(space + word for space, word in mine[start:end])
            beyond = from_ >= len(theirs) and kind == "delete" and not whole
            pieces.append(escape(run) if beyond else _mark(run))
    return "".join(pieces)


def same_words(text: str, other: str) -> int | None:
    """How many words at the start are the same; None where the texts are equal."""
    if text == other:
        return None
    pairs = zip(words_of(text), words_of(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0].letters == pair[1].letters, pairs))


def _equal(mine: Word, theirs: Word) -> str:
    """A word that both have; white space that differs is shown, unless it stands at the beginning."""
    space = escape(mine.space)
    if mine.space != theirs.space and mine.space:
        signs = mine.space.replace("\n", "↵").replace("\t", "→").replace(" ", "·")
        space = f'<mark class="space" title="{escape(signs)}">{space}</mark>'
    return space + escape(mine.letters)


def _mark(run: str) -> str:
    """White space at both ends stays outside."""
    inner = run.strip()
    before, _, behind = run.partition(inner) if inner else (run, "", "")
    return f"{escape(before)}<mark>{escape(inner)}</mark>{escape(behind)}" if inner else escape(run)
