"""Three more seeds: both models write after the same prompt again, so that one lucky text proves nothing."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from html import escape

from explorer.ui.asks import Ask
from explorer.ui.desk import Desk
from explorer.ui.markup import region
from explorer.ui.stage import Stage
from explorer.ui.view import Found, Status
from explorer.ui.word_diff import pane, same_words
from explorer.ui.words import words
from explorer.values.prompt import Prompt
from explorer.values.recipe import Recipe

WORDS = words("seeds")
MORE = 3
TEMPERATURE = 0.7  # where the page's is 0: each seed would give the same text


def place(stage: Stage) -> None:
    """A button, and the pairs below."""
    stage.question(WORDS, partial(found, stage.desk), ("more-seeds", "seeds-texts"), "seeds")


def found(desk: Desk, ask: Ask) -> Iterator[Found]:
    """Pair after pair; what is written already stays where it is stopped."""
    if ask.recipe == Recipe():
        raise ValueError(WORDS["nothing"])
    yield from desk.applied(ask.recipe)
    pairs, told = "", WORDS["note"].format(temperature=ask.prompt.temperature or TEMPERATURE)
    for number in range(1, MORE + 1):
        prompt = replace(ask.prompt, seed=ask.prompt.seed + number, temperature=ask.prompt.temperature or TEMPERATURE)
        texts = list[str]()
        for side in (None, ask.recipe):
            text = ""
            for piece in desk.bench.write(side, prompt):
                text = piece.text
                line = WORDS.say("writing", number=number, seeds=MORE, tokens=piece.tokens)
                yield None, Status(line, "busy")
            texts.append(text)
        pairs += pair(prompt, ask.recipe, *texts)
        yield region("seeds", WORDS["title"], told, pairs), None
    yield region("seeds", WORDS["title"], told, pairs), Status(WORDS.say("done", seeds=MORE), "done")


def pair(prompt: Prompt, recipe: Recipe, original: str, compressed: str) -> str:
    """Both texts of one seed, marked where they differ."""
    same = same_words(original, compressed)
    differ = WORDS["same"] if same is None else WORDS["differ" if same else "at_once"].format(words=same)
    panes = pane(WORDS["original"], "", original, compressed, side="original", whole=True)
    panes += pane(recipe.words(), "", compressed, original, side="compressed", whole=True)
    return f'<h3>{escape(WORDS["seed"].format(seed=prompt.seed))} {escape(differ)}</h3><div class="pair">{panes}</div>'
