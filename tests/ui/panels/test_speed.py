"""Tables of speed: every number with its badge, slower cells by colour, shape and word."""

import re
from dataclasses import replace

import pytest

from explorer.ui.panels import speed
from explorer.ui.panels.speed import WORDS
from explorer.ui.words import words
from explorer.values.performance import PARTS, Cell, Energy, Machine, Parts, Performance, Product, Roofline, Side, Speed
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe


def of(value: float, unit: str = "ms", spread: float = 0.1) -> Reading:
    return Reading(value=value, unit=unit, how="measured", low=value * (1 - spread / 2), high=value * (1 + spread / 2))


def speed_of(ratio: float) -> Speed:
    return Speed(
        prefill_ms=of(9),
        ms_per_token=of(2),
        tokens_per_second=of(500, "tokens/s"),
        kernel="<b>k</b>",
        loop="own step",
        prompt_tokens=128,
        threads=2,
        processor="<i>chip",
        decode_ratio=of(ratio, "×"),
        prefill_ratio=of(1.01, "×"),
    )


@pytest.fixture
def found() -> Performance:
    side = Side(
        speed=speed_of(1.5),
        roofline=Roofline(bytes_per_token=of(8e7, "bytes"), floor_ms=of(1), share=of(0.5, "share")),
        parts=Parts(parts={part: of(1) for part in PARTS}, total=of(5)),
        energy=Energy(
            joules_per_token=of(1, "J"), kwh_per_million=of(1, "kWh"), co2_g_per_million=of(1, "g"), source="a counter"
        ),
    )
    machine = Machine(
        processor="a chip",
        threads=2,
        dtype="bfloat16",
        bandwidth=of(12e9, "bytes/s"),
        products=tuple(
            Product(kernel=kernel, shape=(3, 4), tokens=tokens, ms=of(0.02))
            for kernel in ("dense", "int4pack")
            for tokens in (1, 128)
        ),
    )
    cells = tuple(
        Cell(batch=batch, prompt_tokens=16, original=speed_of(1), compressed=speed_of(ratio))
        for batch, ratio in ((1, 1.5), (4, 0.7))
    )
    return Performance(recipe=Recipe(bits=4), model="m", original=side, compressed=side, machine=machine, surface=cells)


def test_every_number_in_a_cell_carries_its_badge(found: Performance) -> None:
    for cell in re.findall(r"<td>(.*?)</td>", speed.tables(found)):
        shown = re.sub(r'<span class="number">[^<]+</span><span class="badge \w+"[^>]*>\w+</span>', "", cell)
        assert not re.search(r"\d", re.sub(r"<[^>]*>", "", shown)), cell


def test_a_slower_cell_has_a_colour_a_shape_and_a_word(found: Performance) -> None:
    html = speed.tables(found)
    slower = re.findall(r'<span class="cell slower">(.*?)</td>', html)
    assert len(slower) == 1 and "▼" in slower[0] and "0.70×" in slower[0] and "slower" in slower[0]
    assert len(re.findall(r'<span class="cell faster">', html)) == 1 and html.count('class="cell no"') == 2


def test_what_is_not_known_yet_is_not_there(found: Performance) -> None:
    bare = replace(
        found, machine=None, surface=(), original=Side(speed=speed_of(1)), compressed=Side(speed=speed_of(1))
    )
    html = speed.tables(bare)
    assert WORDS["limits"]["title"] in html and "…" in html
    for name in ("time_parts", "surface", "kernels"):
        assert WORDS[name]["title"] not in html


def test_a_half_filled_surface_has_all_its_places(found: Performance) -> None:
    more = (*found.surface, replace(found.surface[0], prompt_tokens=64))
    rows = speed._surface(more).split("<tr>")[2:]
    assert len(rows) == 2 and all(row.count("<td>") == 4 for row in rows) and rows[1].count("…") == 2


def test_names_from_outside_stay_text(found: Performance) -> None:
    html = speed.tables(found)
    assert "<b>" not in html and "<i>chip" not in html and "&lt;i&gt;chip" in html


def test_a_busy_machine_is_named(found: Performance) -> None:
    assert words("markup")["busy"] not in speed.tables(found)
    loose = replace(found.compressed.speed, ms_per_token=of(2, spread=0.5))
    html = speed.tables(replace(found, compressed=replace(found.compressed, speed=loose)))
    assert html.count(words("markup")["busy"]) == 2  # in the sentence, and at the number


def test_parts_have_words_for_every_name() -> None:
    assert set(WORDS["time_parts"]["names"]) == set(PARTS)
    assert set(WORDS["surface"]["verdict"]) == set(speed.SIGNS)
