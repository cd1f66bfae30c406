"""Large or small: two models side by side, what each takes to keep, run and train, and the five costs as bars. All is
calculated; nothing is loaded."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import gradio as gr

from explorer.model.memory import free_bytes
from explorer.takes import catalogue, requirements
from explorer.takes.requirements import Costs, Takes
from explorer.ui import drawings
from explorer.ui.desk import failure
from explorer.ui.markup import bar, number, paragraph, status, table
from explorer.ui.pictures import About, Picture, shown
from explorer.ui.stage import OWN, QUICK, Stage, html, typed_list
from explorer.ui.words import words
from explorer.values.reading import Reading

WORDS = words("requirements")
LARGE = "tiiuae/falcon-180B"  # what a small one is set beside at first
Ask = tuple[Any, Any, Any, Any, Any]  # two names, bits, context, million tokens a month


def place(stage: Stage) -> None:
    """Two models of the catalogue, bits, context and traffic; any change answers."""
    html(paragraph(WORDS["hint"]))
    with gr.Row(elem_id="takes-ask"):
        wanted = controls(stage.desk.bench.name)
    needs, tab = html("", elem_id="takes-table"), stage.tab

    def arrows() -> None:
        changed = [tab.select, *(control.change for control in wanted)]
        gr.on(changed, answer, wanted, needs, trigger_mode="always_last", api_name="takes", **OWN, **QUICK)

    stage.later(arrows)


def controls(model: str) -> list[Any]:
    """The first model is the one that is open, where the catalogue has it."""
    there, here = names(), catalogue.find(model.removesuffix("-Instruct"))
    return [
        typed_list(there, value=here.id if here else there[0], label=WORDS["first"], elem_id="takes-first"),
        typed_list(there, value=LARGE, label=WORDS["second"], elem_id="takes-second"),
        typed_list([str(b) for b in requirements.BITS], value="16", label=WORDS["bits"], elem_id="takes-bits"),
        gr.Number(2048, label=WORDS["context"], precision=0, elem_id="takes-context"),
        gr.Number(100, label=WORDS["traffic"], elem_id="takes-traffic"),
    ]


def names() -> list[str]:
    """The catalogue, smallest first."""
    return [entry.id for entry in catalogue.entries()]


def answer(*ask: Any) -> str:
    """`tables` for the memory that is free here, or one sentence."""
    try:
        return tables(ask, free_bytes())  # type: ignore[arg-type]
    except ValueError as problem:
        return status(failure(problem))


def tables(ask: Ask, free_bytes: int) -> str:
    """Both models; ValueError, in one sentence, where a value is no name or out of bounds."""
    first, second, bits, context, traffic = ask
    wanted = replace(requirements.default_prices(), million_tokens_per_month=_number(traffic, "million tokens a month"))
    pair = [
        _takes(name, int(_number(bits, "bits")), int(_number(context, "context")), wanted) for name in (first, second)
    ]
    about = About(
        model=", ".join(_columns(pair)[1:]),
        setting=WORDS["month"]["about"].format(
            bits=pair[0].bits, context=f"{pair[0].context:,}", traffic=f"{float(traffic):,g}"
        ),
    )
    return shown(five_costs(pair), about, _costs(pair)) + _needs(pair, free_bytes) + _training(pair)


def _takes(name: Any, bits: int, context: int, prices: requirements.Prices) -> Takes:
    entry = catalogue.find(str(name))
    if entry is None:
        raise ValueError(f"{str(name)[:80]} is not in the catalogue.")
    return requirements.what_it_takes(
        entry.id, entry.architecture, tokens=entry.tokens, context=context, bits=bits, prices=prices
    )


def _needs(pair: list[Takes], free_bytes: int) -> str:
    figures: list[tuple[str, Callable[[Takes], str]]] = [
        ("parameters", lambda t: number(t.parameters)),
        *((f"weights_{bits}", lambda t, bits=bits: number(t.weights[bits])) for bits in (16, 8, 4)),  # type: ignore[misc]
        ("cache", lambda t: number(t.cache_bytes)),
        ("gpus", lambda t: f"{number(t.best.count)} {t.best.gpu.name}"),
        ("ms_per_token", lambda t: number(t.ms_per_token)),
        ("prefill", lambda t: number(t.prefill_ms)),
        ("flops", lambda t: number(t.flops_per_token)),
        ("here", lambda t: _here(t, free_bytes)),
    ]
    rows = {WORDS["rows"][name]: [of(each) for each in pair] for name, of in figures}
    note = WORDS["note"].format(bits=pair[0].bits, context=f"{pair[0].context:,}")
    return table("takes", WORDS["title"], note, _columns(pair), rows, rows.values())


def _here(found: Takes, free_bytes: int) -> str:
    """The largest width at which the weights fit into the free memory of this computer, in words."""
    fitting = [bits for bits, size in found.weights.items() if size.value < 0.8 * free_bytes]
    told: dict[str, str] = WORDS["here"]
    return told["yes"].format(bits=max(fitting)) if fitting else told["no"]


def five_costs(pair: list[Takes]) -> Picture:
    """The five costs of a month, both models in one picture."""
    named = WORDS["month"]
    rows = [named["rows"][field.name] for field in fields(Costs)]
    sides = {
        each.name.rpartition("/")[2]: dict(zip(rows, _five(each.best.costs), strict=True)) for each in reversed(pair)
    }
    return drawings.pairs("what-a-month-costs", named["title"], named["drawn"], sides, named["unit"])


def _costs(pair: list[Takes]) -> str:
    """The five costs of a month; the bars of both models have one scale."""
    named = WORDS["month"]
    widest = max(reading.value for each in pair for reading in _five(each.best.costs)) or 1.0
    rows = {}
    for field, *readings in zip(fields(Costs), *(_five(each.best.costs) for each in pair), strict=True):
        rows[named["rows"][field.name]] = [f"{number(r)}<br>{bar(r.value / widest)}" for r in readings]
    sums: list[tuple[str, Callable[[Takes], Reading]]] = [
        ("total", lambda t: t.best.costs.total),
        ("usd", lambda t: t.best.usd_per_million),
        ("kwh", lambda t: t.best.kwh_per_million),
        ("co2", lambda t: t.co2_g_per_million),
    ]
    rows |= {named["rows"][name]: [number(of(each)) for each in pair] for name, of in sums}
    return table("month", named["title"], named["note"], _columns(pair), rows, rows.values())


def _training(pair: list[Takes]) -> str:
    named = WORDS["training"]
    rows = {
        named["rows"][name]: [number(getattr(each.training, name)) if each.training else "–" for each in pair]
        for name in ("tokens", "flop", "gpu_hours", "kwh", "co2_kg", "usd")
    }
    return table("training", named["title"], named["note"], _columns(pair), rows, rows.values())


def _five(costs: Costs) -> Iterator[Reading]:
    return (getattr(costs, field.name) for field in fields(Costs))


def _columns(pair: list[Takes]) -> list[str]:
    return [WORDS["corner"], *(each.name.rpartition("/")[2] for each in pair)]


def _number(value: Any, name: str) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = -1.0
    if not 0 < found < 1e9:
        raise ValueError(f"{name} must be a number above 0.")
    return found
