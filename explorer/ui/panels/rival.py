"""Start small instead? A second model beside the one that is compressed: costs, bits per byte and texts side by side,
and what is better at equal bytes, time and FLOPs."""

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

import gradio as gr

from explorer.studies.rival import Rivalry
from explorer.ui.asks import Ask
from explorer.ui.desk import Desk
from explorer.ui.markup import end, number, paragraph, region, table
from explorer.ui.stage import Stage, html
from explorer.ui.view import Found, Status
from explorer.ui.words import words
from explorer.values.contest import BUDGETS, Contender, Contest, Match
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.values.units import plain
from explorer.values.written import Piece

WORDS = words("rival")
TOKENS = 1000  # read of each side, at 4 bytes
LONGEST_NAME = 300


def place(stage: Stage) -> None:
    """A name, a button, and the tables below; the rival is drawn in the plot."""
    html(paragraph(WORDS["hint"]))
    with gr.Row(elem_id="rival-ask"):
        options: dict[str, Any] = {"max_lines": 1, "max_length": LONGEST_NAME, "min_width": 320, "scale": 0}
        named = gr.Textbox("", label=WORDS["name"], placeholder=WORDS["placeholder"], elem_id="rival-name", **options)
        button = gr.Button(WORDS["button"], size="sm", scale=0, elem_id="meet-rival")
    answer, rivals = html("", elem_id="rival-table"), RivalPanel(stage.desk, stage.alone)

    def arrows() -> None:
        meeting = stage.study([button.click, named.submit], rivals.meet, answer, "rival", [named])
        stage.refresh(meeting.then)

    stage.later(arrows)


class RivalPanel:
    """The rival of one desk; `allowed` where only this computer's own user can ask to open one."""

    def __init__(self, desk: Desk, allowed: bool = True) -> None:
        self.desk, self.allowed = desk, allowed
        self._rivalry: Rivalry | None = None

    @property
    def rivalry(self) -> Rivalry:
        """That of the model which is open now."""
        if self._rivalry is None or self._rivalry.bench is not self.desk.bench:
            self._rivalry = Rivalry(self.desk.bench)
        return self._rivalry

    def meet(self, ask: Ask, typed: object) -> Iterator[Found]:
        """Opens the model of this name, and lets the setting and the best tried before meet it."""
        name = str(typed or "").strip()
        if not self.allowed:
            raise ValueError(WORDS["not_here"])
        if not name or len(name) > LONGEST_NAME:
            raise ValueError(WORDS["no_name"])
        yield None, Status(WORDS.say("opening", rival=name), "busy")
        for sentence in self.rivalry.opening(name):
            yield None, Status(sentence, "busy")
        rival = self.rivalry.open(name)
        recipes = list(dict.fromkeys([ask.recipe, *self._tried(rival.size.file_bytes)]))
        for recipe in recipes:
            yield from self.desk.applied(recipe)
        found: Contest | None = None
        for step in self.rivalry.meet(recipes, TOKENS):
            if isinstance(step, Contest):
                found = step
            else:
                yield None, Status(WORDS.say("meeting", rival=name, share=f"{step * 100:.0f}"), "busy")
        assert found
        self.desk.known.contest = found
        writers = [(WORDS["original"], self.desk.bench.write(None, ask.prompt))]
        if ask.recipe != Recipe():  # the original is not asked twice
            writers.append((ask.recipe.words(), self.desk.bench.write(ask.recipe, ask.prompt)))
        writers.append((name, self.rivalry.write(ask.prompt)))
        texts = list[tuple[str, str]]()
        for title, pieces in writers:
            last: Piece | None = None
            for last in pieces:
                yield None, Status(words("status").say("writing", tokens=last.tokens), "busy")
            texts.append((title, last.text if last else ""))
        yield tables(found) + written(texts), Status(WORDS.say("met", rival=name), "done")

    def _tried(self, size: Reading) -> Iterator[Recipe]:
        """Of what was measured before, the nearest to the original, and that of all no larger than the rival."""
        judged = [m for m in self.desk.bench.history() if m.quality and m.recipe != Recipe()]
        small = [m for m in judged if m.size.file_bytes.value <= size.value]
        for group in (small, judged):
            best = min(group, key=lambda m: m.quality.kl.value if m.quality else 0.0, default=None)
            if best:
                yield best.recipe


def tables(found: Contest) -> str:
    """Who costs what, and who is better where neither may cost more."""
    note = WORDS["note"].format(count=f"{found.count:,}") + (f" {found.note}" if found.note else "")
    sides = [found.rival, *found.ours]
    verdicts = region("verdicts", WORDS["verdicts"], "", "".join(map(_verdict, found.matches)))
    return verdicts + table(
        "rival", WORDS["title"], note, WORDS["columns"], [one.name for one in sides], map(_cells, sides)
    )


def _cells(one: Contender) -> list[str]:
    apart = one.difference
    return [
        number(one.file_bytes),
        number(one.parameters),
        number(one.ms_per_token),
        number(one.flops_per_token),
        number(one.bits_per_byte),
        "" if apart is None else number(apart),
        "" if apart is None else number(end(apart, apart.low)),
        "" if apart is None else number(end(apart, apart.high)),
    ]


def _verdict(match: Match) -> str:
    """One sentence, by what must be equal."""
    told = {"budget": WORDS["budgets"][BUDGETS.index(match.budget)]}
    if match.best is None or match.best.difference is None:
        return f"<p>{escape(WORDS['none as cheap'].format(**told))}</p>"
    apart = match.best.difference
    told |= {"name": match.best.name, "by": plain(apart, abs(apart.value))}
    badge = f'<span class="badge {apart.how}">{apart.how}</span>'
    return f"<p>{escape(WORDS[match.verdict].format(**told))} {badge}</p>"


def written(texts: Iterable[tuple[str, str]]) -> str:
    """What each, named by its title, wrote after the same prompt."""
    parts = "".join(f'<h3>{escape(name)}</h3><p class="text">{escape(text)}</p>' for name, text in texts)
    return region("rival-texts", WORDS["texts"], WORDS["texts_note"], parts)
