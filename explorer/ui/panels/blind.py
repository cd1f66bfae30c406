"""The blind test: a pair of texts without names, an answer, and what all answers prove so far."""

import random
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html import escape

import gradio as gr

from explorer.measure.repetition import prompts
from explorer.studies import blind
from explorer.ui.asks import Ask
from explorer.ui.desk import Desk
from explorer.ui.markup import end, number, paragraph, table
from explorer.ui.stage import QUICK, Stage, html, session_of
from explorer.ui.view import Found, Status
from explorer.ui.visits import VISITS_KEPT
from explorer.ui.word_diff import pane
from explorer.ui.words import words
from explorer.values.recipe import Recipe

WORDS = words("blind")
TRIES = 5  # prompts, until the two texts differ


def place(stage: Stage) -> None:
    """A button for a pair, two for an answer, and the pair below."""
    html(paragraph(WORDS["hint"]))
    with gr.Row(elem_id="blind-ask"):
        pair = gr.Button(WORDS["pair"], size="sm", scale=0, elem_id="blind-pair")
        sides = [gr.Button(WORDS[side], size="sm", scale=0, elem_id=f"blind-{side}") for side in ("a", "b")]
    guessing, blind_test = html("", elem_id="blind-table"), BlindTest(stage.desk)

    def arrows() -> None:
        stage.study(pair.click, blind_test.pair, guessing, "blind", visit=True)
        for side, button in enumerate(sides):

            def vote(request: gr.Request, side: int = side) -> str:
                return blind_test.answer(side, session_of(request))

            button.click(vote, None, guessing, api_visibility="private", **QUICK)

    stage.later(arrows)


@dataclass(eq=False)
class Visit:
    """One visitor's answers, and the pair that waits for one: its setting, and which side is compressed."""

    answers: list[blind.Answer] = field(default_factory=list)
    waiting: tuple[Recipe, int] | None = None
    prompts: int = 0
    pairs: int = 0
    shown: str = ""


class BlindTest:
    """The blind test of one desk."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._visits: OrderedDict[str, Visit] = OrderedDict()
        self._chance = random.Random()

    def answer(self, side: int, session: str) -> str:
        """Whether side 0 (A) or 1 (B) was the compressed one, and all results so far."""
        visit = self._visit(session)
        if visit.waiting is None:
            return f"<p>{escape(WORDS['no_pair'])}</p>" + self._results(visit)
        recipe, compressed = visit.waiting
        visit.waiting = None
        visit.answers.append(blind.Answer(recipe=recipe, right=side == compressed))
        verdict = WORDS["right" if side == compressed else "wrong"]
        told = verdict.format(side="AB"[compressed], words=recipe.words())
        return f"<p><b>{escape(told)}</b></p>" + visit.shown + self._results(visit)

    def pair(self, ask: Ask, session: str) -> Iterator[Found]:
        """Two texts of the setting, for another prompt each time; (both, status line)."""
        visit = self._visit(session)
        if ask.recipe == Recipe():
            raise ValueError(WORDS["nothing"])
        yield from self.desk.applied(ask.recipe)
        texts, prompt = ["", ""], ask.prompt
        hidden = [text for text in prompts() if text != ask.prompt.text]  # that one is solved above the pair
        for _ in range(TRIES):
            prompt = replace(ask.prompt, text=hidden[visit.prompts % len(hidden)])
            visit.prompts += 1
            for i, recipe in enumerate((None, ask.recipe)):
                for piece in self.desk.bench.write(recipe, prompt):
                    texts[i] = piece.text
                    yield None, Status(WORDS.say("writing", tokens=piece.tokens), "busy")
            if texts[0] != texts[1]:
                break
        else:
            raise ValueError(WORDS["same"].format(tries=TRIES))
        visit.pairs += 1
        compressed = self._chance.randrange(2)
        visit.waiting = ask.recipe, compressed
        a, b = texts if compressed else reversed(texts)
        title = WORDS["question"].format(number=visit.pairs, prompt=prompt.text)
        panes = pane("A", "", a, "", side="a") + pane("B", "", b, "", side="b")
        visit.shown = f'<h2 class="question">{escape(title)}</h2><div class="pair">{panes}</div>'
        yield visit.shown + self._results(visit), Status(WORDS.say("ready"), "done")

    def _results(self, visit: Visit) -> str:
        """One row for each setting that was asked about; the gentlest one told apart is the just noticeable one."""
        found = blind.results(visit.answers)
        if not found:
            return ""
        known = {each.recipe: self.desk.bench.measured(each.recipe) for each in found}
        distances = {recipe: row.quality.kl for recipe, row in known.items() if row and row.quality}
        rows = [
            [
                number(each.right),
                *(number(end(each.right, at)) for at in (each.right.low, each.right.high)),
                number(distances.get(each.recipe)),
                escape(WORDS["apart" if each.apart else "not_apart"]),
            ]
            for each in found
        ]
        told = [each.recipe for each in found if each.apart and each.recipe in distances]
        note = WORDS["note"]
        if told:
            least = min(told, key=lambda recipe: distances[recipe].value)
            note += " " + WORDS["noticeable"].format(words=least.words())
        return table("blind", WORDS["title"], note, WORDS["columns"], [each.recipe.words() for each in found], rows)

    def _visit(self, session: str) -> Visit:
        visit = self._visits.setdefault(session, Visit())
        self._visits.move_to_end(session)
        while len(self._visits) > VISITS_KEPT:
            self._visits.popitem(last=False)
        return visit
