"""The setting in one sentence, for somebody who has never heard of perplexity: how much smaller and faster, how often
the next word is the same, and of the easy questions how many are still right. Every number with its badge."""

from hashlib import sha1
from html import escape

from explorer.ui.markup import number
from explorer.ui.stage import Stage, html
from explorer.ui.view import Numbers, View
from explorer.ui.words import words
from explorer.values.performance import Verdict, verdict
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe

WORDS = words("verdict")
SPEED: dict[Verdict, str] = {"faster": "faster", "slower": "slower", "no clear difference": "as_fast"}
SAME_SIZE = 0.005  # of the ratio: nobody calls that smaller


def place(stage: Stage) -> None:
    """One sentence that follows the setting, above the numbers."""
    stage.follow(html(sentence([]), elem_id="verdict"), draw)


def draw(view: View) -> str | None:
    """The setting, once its time and its distance are measured: words that came one by one would push others about."""
    if view.numbers is None:
        return None
    now = view.numbers
    if now.recipe == Recipe():
        return sentence([escape(WORDS["original"])])
    if now.known is None or now.known.speed is None or now.known.quality is None:
        return sentence([escape(WORDS["measuring"].format(words=now.recipe.words()))])
    return sentence([_size(now.size.compression_ratio), _speed(now), _words(now), *_questions(now)])


def sentence(parts: list[str]) -> str:
    """Parts of HTML as one sentence, in an element of its own name: words of a patched one would count as moved."""
    told = "; ".join(parts) + "." * bool(parts)
    own = f"v-{sha1(told.encode(), usedforsecurity=False).hexdigest()[:8]}"
    return f'<p class="verdict" role="status"><{own}>{told}</{own}></p>'


def _said(word: str, reading: Reading) -> str:
    """A sentence's part with the reading in its place."""
    before, _, after = WORDS[word].partition("{}")
    return f"{escape(before)}{number(reading)}{escape(after)}"


def _size(ratio: Reading) -> str:
    if abs(ratio.value - 1) < SAME_SIZE:
        return escape(WORDS["as_large"])
    return _said("smaller" if ratio.value > 1 else "larger", ratio)


def _speed(now: Numbers) -> str:
    ratio = now.known.speed.decode_ratio if now.known and now.known.speed else None
    assert ratio
    if ratio.low is None:  # one round has no interval
        return _said("timed_once", ratio)
    return _said(SPEED[verdict(ratio)], ratio)


def _words(now: Numbers) -> str:
    quality = now.known.quality if now.known else None
    assert quality
    if quality.broken_positions:
        return escape(WORDS["broken"])
    word = "same_words" if quality.verdict == "distinguishable" or quality.noise_floor is None else "no_difference"
    return _said(word, quality.top1_agreement)


def _questions(now: Numbers) -> list[str]:
    asked = now.known.questions if now.known else None
    if asked is None:
        return []
    own, original = asked.whole.right, asked.whole.right_original
    first, second, last = (
        escape(part) for part in WORDS["questions"].format("|", "|", of=len(asked.answers)).split("|")
    )
    return [first + number(own) + second + number(original) + last]
