"""Word by word: the original's text with a bar under each word for how far the compressed model's prediction is off
there, both models' likeliest words at the start and where they part, and the original asked once more."""

import math
from collections.abc import Iterator
from functools import partial
from html import escape
from itertools import zip_longest

from explorer.studies.tracing import trace
from explorer.ui.asks import Ask
from explorer.ui.color import color
from explorer.ui.desk import Desk
from explorer.ui.markup import bar, number, region, table
from explorer.ui.stage import Stage
from explorer.ui.view import Found, Status
from explorer.ui.word_diff import marked
from explorer.ui.words import words
from explorer.values.reading import Reading
from explorer.values.units import plain
from explorer.values.written import Guess, Place, Trace

WORDS = words("words")
HIGHEST = 14  # px, of the bar under a word
LEAST, MOST = 1e-3, 10.0  # nats: below the one no bar, from the other the highest


def place(stage: Stage) -> None:
    """A button, and the text below."""
    stage.question(WORDS, partial(found, stage.desk), ("word-by-word", "words-table"), "words")


def found(desk: Desk, ask: Ask) -> Iterator[Found]:
    """The original writes, then the compressed model reads."""
    yield from desk.applied(ask.recipe)
    for told in trace(desk.bench, ask.recipe, ask.prompt):
        if isinstance(told, int):
            yield None, Status(words("status").say("writing", tokens=told), "busy")
        else:
            yield tables(told), Status(WORDS.say("done", words=ask.recipe.words()), "done")


def tables(found: Trace) -> str:
    """Everything about a trace."""
    html = heat(found)
    html += _likeliest(found.places[0], WORDS["first"].format(word=_shown(found.places[0].word)))
    if found.parts:
        place = found.places[found.parts]
        html += _likeliest(place, WORDS["parting"].format(number=found.parts + 1, word=_shown(place.word)))
    same = found.again == found.text
    note = WORDS["null_same"] if same else WORDS["null_differs"]
    text = f'<p class="again">{marked(found.again, found.text)}</p>'
    return html + region("null", WORDS["null"], note, text)


def heat(found: Trace) -> str:
    """The text; the higher and darker the bar under a word, the further apart the two predictions of it."""
    spans = []
    for i, place in enumerate(found.places):
        kind = "word parting" if i == found.parts else "word"
        here, there = _guess(place.original[0]), _guess(place.compressed[0])
        says = WORDS["says"].format(kl=plain(place.kl, place.kl.value), original=here, compressed=there)
        look = f"--bar:{height(place.kl)}px;--kl:{color(place.kl.value)}"
        spans.append(f'<span class="{kind}" style="{look}" title="{escape(says)}">{escape(place.word)}</span>')
    total = Reading(
        value=sum(place.kl.value for place in found.places) / len(found.places),
        unit="nats",
        how="measured",
        n=len(found.places),
    )
    note = WORDS["all_same"] if found.parts is None else WORDS["note"].format(number=found.parts + 1)
    mean = f"<p>{escape(WORDS['mean'])} {number(total)}</p>"
    return region("heat", WORDS["title"], note, f'{mean}<p class="text">{"".join(spans)}</p>')


def height(kl: Reading) -> int:
    """Pixels of the bar: none below `LEAST` nats, the highest from `MOST` on."""
    if not math.isfinite(kl.value):
        return HIGHEST
    share = math.log(max(kl.value, LEAST) / LEAST) / math.log(MOST / LEAST)
    return min(HIGHEST, math.ceil(HIGHEST * share))


def _likeliest(place: Place, title: str) -> str:
    rows = [
        [cell for guess in pair for cell in _cells(guess)] for pair in zip_longest(place.original, place.compressed)
    ]
    ranks = [str(i) for i in range(1, len(rows) + 1)]
    return table("likeliest", title, WORDS["likeliest"], WORDS["columns"], ranks, rows)


def _cells(guess: Guess | None) -> tuple[str, str]:
    if guess is None:
        return "", ""
    return f"<code>{escape(_shown(guess.word))}</code>", f"{bar(guess.share.value)} {number(guess.share)}"


def _guess(guess: Guess) -> str:
    return f"{_shown(guess.word)} ({plain(guess.share, guess.share.value)})"


def _shown(word: str) -> str:
    """A token as it can be read: a line's end has no look of its own."""
    return word.replace("\n", "⏎").strip() or "␣"
