"""Two models side by side: the figures are those of `takes`, each with its badge, and nonsense is one sentence."""

import re

import pytest

from explorer.takes import catalogue
from explorer.takes.requirements import what_it_takes
from explorer.ui.markup import number
from explorer.ui.panels import requirements

ASK = ("HuggingFaceTB/SmolLM2-135M", "tiiuae/falcon-180B", "4", 2048, 100)


def test_the_figures_are_those_of_the_calculation_each_with_its_badge() -> None:
    html = requirements.tables(ASK, 10**10)
    for name in ASK[:2]:
        entry = catalogue.find(name)
        assert entry
        found = what_it_takes(entry.id, entry.architecture, tokens=entry.tokens, context=2048, bits=4)
        for reading in (found.weights[4], found.cache_bytes, found.best.costs.total, found.co2_g_per_million):
            assert number(reading) in html
    assert html.count('class="number"') == html.count('class="badge calculated"') > 40


def test_more_traffic_costs_more_and_less_memory_holds_less() -> None:
    assert requirements.tables(ASK, 10**12).count("fits at 16 bits") == 2
    little = requirements.tables(ASK, 65_000_000)
    assert little.count("does not fit") == 1 and re.search(r"fits at [23] bits", little)
    dear = requirements.tables((*ASK[:4], 10_000), 10**10)
    assert dear != requirements.tables(ASK, 10**10)


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("nonsense", [None, "", "<script>alert(1)</script>", -1, float("nan"), 1e30, []])
def test_nonsense_is_one_sentence(place: int, nonsense: object) -> None:
    ask = [*ASK]
    ask[place] = nonsense  # type: ignore[call-overload]
    html = requirements.answer(*ask)
    assert 'data-state="error"' in html and "<script" not in html and "Traceback" not in html


def test_every_name_of_the_catalogue_can_be_chosen() -> None:
    for name in requirements.names():
        html = requirements.tables((name, name, 16, 1024, 1), 10**10)
        assert not re.search(r"\bnan\b|\binf\b|None", html), name
