"""The blind test on the page: a pair of texts without names, an answer, and what all answers prove so far."""

import random
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html import escape

from explorer import blind
from explorer.measure.repetition import prompts
from explorer.recipe import Recipe
from explorer.ui import views
from explorer.ui.asks import Ask, Controls
from explorer.ui.handlers import SESSIONS_KEPT, Desk, Found
from explorer.ui.views import WORDS, number, say, table

TRIES = 5  # prompts, until the two texts differ


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

    def pair(self, values: Controls, session: str) -> Iterator[Found]:
        """Two texts of the setting, for another prompt each time; (both, status line)."""
        visit = self._visit(session)
        yield from self.desk.in_full(values, session, lambda ask: self._pair(ask, visit))

    def answer(self, side: int, session: str) -> str:
        """Whether side 0 (A) or 1 (B) was the compressed one, and all results so far."""
        visit = self._visit(session)
        if visit.waiting is None:
            return f"<p>{escape(WORDS['blind']['no_pair'])}</p>" + self._results(visit)
        recipe, compressed = visit.waiting
        visit.waiting = None
        visit.answers.append(blind.Answer(recipe=recipe, right=side == compressed))
        word = WORDS["blind"]["right" if side == compressed else "wrong"]
        told = word.format(side="AB"[compressed], words=recipe.words())
        return f"<p><b>{escape(told)}</b></p>" + visit.shown + self._results(visit)

    def _pair(self, ask: Ask, visit: Visit) -> Iterator[Found]:
        if ask.recipe == Recipe():
            raise ValueError(WORDS["blind"]["nothing"])
        yield from self.desk.applied(ask.recipe)
        texts, prompt = ["", ""], ask.prompt
        for _ in range(TRIES):
            prompt = replace(ask.prompt, text=prompts()[visit.prompts % len(prompts())])
            visit.prompts += 1
            for i, recipe in enumerate((None, ask.recipe)):
                for piece in self.desk.bench.write(recipe, prompt):
                    texts[i] = piece.text
                    yield None, views.status(say("blind_writing", tokens=piece.tokens), "busy")
            if texts[0] != texts[1]:
                break
        else:
            raise ValueError(WORDS["blind"]["same"].format(tries=TRIES))
        visit.pairs += 1
        compressed = self._chance.randrange(2)
        visit.waiting = ask.recipe, compressed
        a, b = texts if compressed else reversed(texts)
        title = WORDS["blind"]["question"].format(number=visit.pairs, prompt=prompt.text)
        panes = views.pane("A", "", a, "", side="a") + views.pane("B", "", b, "", side="b")
        visit.shown = f'<h2 class="question">{escape(title)}</h2><div class="pair">{panes}</div>'
        yield visit.shown + self._results(visit), views.status(say("blind_ready"), "done")

    def _results(self, visit: Visit) -> str:
        """One row for each setting that was asked about; the gentlest one told apart is the just noticeable one."""
        found, words = blind.results(visit.answers), WORDS["blind"]
        if not found:
            return ""
        known = {each.recipe: self.desk.bench.measured(each.recipe) for each in found}
        distances = {recipe: row.quality.kl for recipe, row in known.items() if row and row.quality}
        rows = [
            [
                number(each.right),
                *(number(views.end(each.right, at)) for at in (each.right.low, each.right.high)),
                number(distances.get(each.recipe)),
                escape(words["apart" if each.apart else "not_apart"]),
            ]
            for each in found
        ]
        told = [each.recipe for each in found if each.apart and each.recipe in distances]
        note = words["note"]
        if told:
            least = min(told, key=lambda recipe: distances[recipe].value)
            note += " " + words["noticeable"].format(words=least.words())
        return table("blind", words["title"], note, words["columns"], [each.recipe.words() for each in found], rows)

    def _visit(self, session: str) -> Visit:
        visit = self._visits.setdefault(session, Visit())
        self._visits.move_to_end(session)
        while len(self._visits) > SESSIONS_KEPT:
            self._visits.popitem(last=False)
        return visit
