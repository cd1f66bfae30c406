"""Just give me the best under my budget: the solver's choice and the best with one width for all, both really made and
compared, the prediction beside the truth, and how each part of the model is kept."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape

import gradio as gr

from explorer.files import cache_folder
from explorer.layers.targets import Target
from explorer.model.plan import Factor, plans
from explorer.studies import budget, trade
from explorer.studies.budget import Choice, Limits
from explorer.ui.asks import Ask
from explorer.ui.desk import Desk
from explorer.ui.markup import number, paragraph, region, table
from explorer.ui.stage import Stage, html
from explorer.ui.view import Found, Status
from explorer.ui.words import words
from explorer.values.measurement import Measurement
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

WORDS, say = words("budget"), words("status").say
UNITS = {"size": 1e6, "ms": 1.0, "kl": 1.0}  # of the page's numbers: million bytes, ms, nats


def place(stage: Stage) -> None:
    """Three limits, a button, and the tables below; what was made is drawn in the plot."""
    html(paragraph(WORDS["hint"]))
    with gr.Row(elem_id="budget-ask"):
        most = [gr.Number(None, label=WORDS[n], min_width=140, scale=0, elem_id=f"budget-{n}") for n in UNITS]
        button = gr.Button(WORDS["button"], size="sm", scale=0, elem_id="find-best")
    answer, budgets = html("", elem_id="budget-table"), BudgetPanel(stage.desk)

    def arrows() -> None:
        finding = stage.study(button.click, budgets.find, answer, "budget", [stage.control("level"), *most])
        stage.refresh(finding.then)

    stage.later(arrows)


class BudgetPanel:
    """The budgets of one desk."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._now: dict[str, tuple[list[trade.Trade], float]] = {}  # by model: timed once a visit

    @property
    def bench(self) -> Workbench:
        """That of the model which is open now."""
        return self.desk.bench

    def find(self, ask: Ask, level: object, *most: object) -> Iterator[Found]:
        """`most`: million bytes, ms a token and nats; nothing or 0 is no limit."""
        limits = limits_of(most)
        self.desk.known.budget = limits.size
        for share in self.bench.prepare():
            yield None, Status(say("preparing", share=f"{share * 100:.0f}"), "busy")
        found: list[trade.Trade] = []
        for step in trade.trades(self.bench, cache_folder() / "budget"):
            if isinstance(step, list):
                found = step
            else:
                yield None, Status(WORDS.say("trading", share=f"{step * 100:.0f}"), "busy")
        rest = 0.0
        if limits.ms:
            yield None, Status(say("timing"), "busy")
            name = self.bench.fingerprint
            self._now[name] = self._now.get(name) or budget.as_now(self.bench, found)
            found, rest = self._now[name]
        choice = budget.choose(self.bench, found, limits, rest=rest, level="best" if level == "best" else "live")
        both = [one for one in (choice, choice.runner_up) if one]
        known: list[Measurement] = []
        for one in both:
            yield from self.desk.applied(one.recipe)
            variant = self.bench.variant(one.recipe)
            record = self.bench.record(variant)
            for quality in self.bench.evaluate(one.recipe, self.bench.judged_tokens[1]):
                record = self.bench.record(variant, quality=quality)
                yield None, Status(say("judging", tokens=quality.tokens), "busy")
            if limits.ms:
                for _, speed in self.bench.time(one.recipe):
                    record = self.bench.record(variant, speed=speed)
                    yield None, Status(say("timing"), "busy")
            known.append(record)
        kept = self.bench.variants.predictor(choice.recipe).targets
        yield (
            tables(both, known, kept, timed=limits.ms is not None),
            Status(WORDS.say("within", words=choice.recipe.words()), "done"),
        )


def limits_of(most: Sequence[object]) -> Limits:
    """ValueError, in one sentence, where they are no numbers above 0, or all are missing."""
    given = {name: value for name, value in zip(UNITS, most, strict=True) if value not in (None, "", 0)}
    numbers = {n: v for n, v in given.items() if isinstance(v, int | float) and not isinstance(v, bool) and 0 < v < 1e9}
    if not given or numbers != given:
        raise ValueError(WORDS["nothing"])
    return replace(Limits(), **{name: float(value) * UNITS[name] for name, value in numbers.items()})


def tables(both: Sequence[Choice], known: Sequence[Measurement], kept: Sequence[Target], timed: bool) -> str:
    """The choice and the runner-up, and what became of each kind of matrix of the choice; times where these were asked
    for, since only then is it known what a token takes besides its products."""
    rows, names = (_cells(*each, timed) for each in zip(both, known, strict=True)), WORDS["names"][: len(both)]
    html = table("budget", WORDS["title"], WORDS["note"], WORDS["columns"], names, rows)
    pairs = [(escape(one.recipe.to_query()), escape(one.recipe.words())) for one in both]
    links = "".join(f'<p><a href="?{query}">{title}</a></p>' for query, title in pairs)
    return html + region("budget-links", WORDS["links"], "", links) + _ways(both[0].recipe, kept)


def _cells(choice: Choice, known: Measurement, timed: bool) -> list[str]:
    return [
        number(known.size.file_bytes),
        number(choice.kl),
        number(known.quality.kl if known.quality else None),
        number(choice.ms) if timed else "",
        number(known.speed.ms_per_token) if timed and known.speed else "",
    ]


def _ways(recipe: Recipe, kept: Sequence[Target]) -> str:
    """How many matrices of each kind are kept in each way."""
    counts = Counter[tuple[str, str]]()
    planned = plans(kept, recipe)
    for target in kept:
        if not target.tied_to:
            counts[_told(planned[target.name].factors), target.kind] += 1
    kinds = list(dict.fromkeys(kind for _, kind in counts))
    ways = sorted({way for way, _ in counts})
    cells = [[str(counts[way, kind] or "") for kind in kinds] for way in ways]
    return table("ways", WORDS["ways"], "", [WORDS["way"], *kinds], ways, cells)


def _told(factors: Sequence[Factor]) -> str:
    """One way of keeping a matrix, in words."""
    if not factors:
        return str(WORDS["whole"])
    spec = factors[0][1]
    parts = [str(WORDS["bits"]).format(bits=spec.bits)]
    parts += [WORDS["zeros"]] if spec.kept is not None else []
    parts += [WORDS["factors"]] if len(factors) > 1 else []
    return ", ".join(parts)
