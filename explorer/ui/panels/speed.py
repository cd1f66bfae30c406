"""How fast both models run and why: times and their limit, where the time goes, the surface, the kernels."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any

from explorer.studies.profiling import profile
from explorer.ui import drawings
from explorer.ui.asks import Ask
from explorer.ui.desk import Desk
from explorer.ui.markup import end, number, table
from explorer.ui.pictures import About, Picture, shown
from explorer.ui.stage import Stage
from explorer.ui.view import Found, Status
from explorer.ui.words import words
from explorer.values.performance import Cell, Machine, Performance, Side, verdict
from explorer.values.reading import Reading
from explorer.values.units import plain

WORDS = words("speed")
SIGNS = {"slower": "▼", "faster": "▲", "no clear difference": "="}  # a shape beside the colour and the word


def place(stage: Stage) -> None:
    """A button, and the tables below."""
    stage.question(WORDS, partial(found, stage.desk), ("measure-speed", "speed-table"), "speed")


def found(desk: Desk, ask: Ask) -> Iterator[Found]:
    """Times, limits, parts, surface and kernels, as they come."""
    recipe = ask.recipe
    yield from desk.applied(recipe)
    drawn = ""
    for one in profile(desk.bench, recipe):
        drawn, rows = tables(one), len(one.machine.products) if one.machine else 0
        told = WORDS.say("timing", words=recipe.words(), rows=rows, cells=len(one.surface))
        yield drawn, Status(told, "busy")
    yield drawn, Status(WORDS.say("done", words=recipe.words()), "done")


def tables(found: Performance) -> str:
    """All that is known so far; what is not, is not there yet."""
    html, about = _limits(found), About.of(found.model, found.recipe)
    if found.original.parts:
        html += shown(time_parts(found), about, _parts(found))
    if found.surface:
        html += shown(surface(found.surface), about, _surface(found.surface))
    return html + (_kernels(found.machine) if found.machine and found.machine.products else "")


def _limits(found: Performance) -> str:
    """Times, their ratio, the roofline and the energy of both models."""
    named, sides = WORDS["limits"], (found.original, found.compressed)
    rows = {name: [number(of(side)) for side in sides] for name, of in _figures(named["rows"])}
    speed, on = found.compressed.speed, found.machine
    for name, ratio in (("decode_ratio", speed.decode_ratio), ("prefill_ratio", speed.prefill_ratio)):
        low, high = (number(end(ratio, at)) for at in ((ratio.low, ratio.high) if ratio else (None, None)))
        rows[named["rows"][name]] = ["", f"{number(ratio)} ({named['ends'].format(low=low, high=high)})"]
    rows[named["rows"]["bandwidth"]] = ["", number(on.bandwidth if on else None)]
    note = named["note"].format(
        processor=speed.processor,
        threads=speed.threads,
        dtype=speed.dtype,
        kernel=speed.kernel,
        prompt=speed.prompt_tokens,
        batch=speed.batch,
        busy=words("markup")["busy"] + ". " if found.original.speed.busy or speed.busy else "",
        energy=found.compressed.energy.source if found.compressed.energy else "…",
    )
    return table("limits", named["title"], note, named["columns"], rows, rows.values())


def _figures(names: dict[str, str]) -> Iterator[tuple[str, Any]]:
    for name in ("ms_per_token", "prefill_ms", "tokens_per_second"):
        yield names[name], lambda side, name=name: getattr(side.speed, name)
    for part, figures in (
        ("roofline", ("bytes_per_token", "floor_ms", "share")),
        ("energy", ("joules_per_token", "kwh_per_million", "co2_g_per_million")),
    ):
        for name in figures:
            yield names[name], lambda side, part=part, name=name: getattr(getattr(side, part), name, None)


def time_parts(found: Performance) -> Picture:
    """Where the time of one further token goes: a bar for each model, against what it takes at least."""
    named = WORDS["time_parts"]
    sides = dict(zip(named["sides"], (found.original, found.compressed), strict=True))
    rows = {
        row: {named["names"][part]: reading for part, reading in side.parts.parts.items()}
        for row, side in sides.items()
        if side.parts
    }
    limits = {row: side.roofline.floor_ms for row, side in sides.items() if side.roofline and row in rows}
    return drawings.stacks(
        "where-the-time-goes", named["title"], named["drawn"], rows, limits, named["limit"], named["unit"]
    )


def surface(cells: tuple[Cell, ...]) -> Picture:
    """Faster or slower, by batch and prompt length."""
    named, places = WORDS["surface"], dict[tuple[str, str], tuple[float, str, Reading]]()
    for kind in ("prefill", "decode"):
        for cell in sorted(cells, key=lambda each: (each.batch, each.prompt_tokens)):
            ratio: Reading | None = getattr(cell.compressed, f"{kind}_ratio")
            if ratio:
                row = named["column"].format(kind=named[kind], batch=cell.batch)
                word = verdict(ratio)
                shade = math.log2(ratio.value) if word != "no clear difference" and ratio.value > 0 else 0.0
                told = f"{SIGNS[word]} {plain(ratio, ratio.value)}"
                places[row, named["row"].format(tokens=cell.prompt_tokens)] = (shade, told, ratio)
    scale = [[0, drawings.PARTS[5]], [0.5, drawings.PAPER], [1, drawings.PARTS[0]]]
    colors = {"colorscale": scale, "zmin": -2, "zmax": 2}
    return drawings.grid("faster-or-slower", named["title"], named["drawn"], places, colors)


def _parts(found: Performance) -> str:
    named = WORDS["time_parts"]
    rows = {}
    for part in (*named["names"], "total"):
        cells = [cell for side in (found.original, found.compressed) for cell in _part(side, part)]
        rows[named["names"].get(part, named["total"])] = cells
    floors = [side.roofline.floor_ms if side.roofline else None for side in (found.original, found.compressed)]
    rows[named["limit"]] = [number(floors[0]), "", number(floors[1]), ""]
    return table("time-parts", named["title"], named["note"], named["columns"], rows, rows.values())


def _part(side: Side, part: str) -> list[str]:
    """ms and share of the whole token."""
    if not side.parts:
        return [number(None), number(None)]
    ms = side.parts.total if part == "total" else side.parts.parts[part]
    share = replace(ms, value=ms.value / side.parts.total.value, unit="share", how="calculated", low=None, high=None)
    return [number(ms), number(share)]


def _surface(cells: tuple[Cell, ...]) -> str:
    """One row for each prompt length; a column for each batch, prefill first."""
    named = WORDS["surface"]
    batches, prompts = (sorted({getattr(cell, name) for cell in cells}) for name in ("batch", "prompt_tokens"))
    known = {(cell.batch, cell.prompt_tokens): cell.compressed for cell in cells}
    columns, rows = [named["corner"]], [list[str]() for _ in prompts]
    for kind in ("prefill", "decode"):
        for batch in batches:
            columns.append(named["column"].format(kind=named[kind], batch=batch))
            for row, prompt in zip(rows, prompts, strict=True):
                speed = known.get((batch, prompt))
                row.append(_ratio(getattr(speed, f"{kind}_ratio")) if speed else number(None))
    names = [named["row"].format(tokens=prompt) for prompt in prompts]
    return table("surface", named["title"], named["note"], columns, names, rows)


def _ratio(ratio: Reading | None) -> str:
    word = verdict(ratio)
    name = word.split(maxsplit=1)[0]
    sign = f'<i aria-hidden="true">{SIGNS[word]}</i>'
    return f'<span class="cell {name}">{sign} {number(ratio)} {escape(WORDS["surface"]["verdict"][word])}</span>'


def _kernels(machine: Machine) -> str:
    named = WORDS["kernels"]
    kernels = list(dict.fromkeys(product.kernel for product in machine.products))
    rows: dict[str, dict[str, Reading]] = {}
    for each in machine.products:
        name = named["row"].format(rows=each.shape[0], columns=each.shape[1], tokens=each.tokens)
        rows.setdefault(name, {})[each.kernel] = _micro(each.ms)
    cells = [[number(times.get(kernel)) for kernel in kernels] for times in rows.values()]
    return table("kernels", named["title"], named["note"], [named["corner"], *kernels], rows, cells)


def _micro(ms: Reading) -> Reading:
    low, high = ms.low, ms.high
    assert low is not None and high is not None
    return replace(ms, value=ms.value * 1e3, low=low * 1e3, high=high * 1e3, unit="µs")
