"""A budget on the page: kept, found, compared with one width for all; nonsense is one sentence."""

import re
from collections.abc import Iterator

import pytest

from explorer.model.plan import plans
from explorer.studies.budget import Limits
from explorer.ui.asks import Controls
from explorer.ui.desk import Desk
from explorer.ui.panels.budget import BudgetPanel, limits_of
from explorer.ui.view import Found


def find(desk: Desk, values: Controls, *most: object) -> Iterator[Found]:
    panel = BudgetPanel(desk)
    return desk.study(values, "a", lambda ask: panel.find(ask, values.level, *most))


@pytest.mark.parametrize("most", [(None, None, None), ("", 0, None), (-1, None, None), ("90", 1, 1), (1, True, None)])
def test_nonsense_is_one_sentence(desk: Desk, values: Controls, most: tuple[object, ...]) -> None:
    *_, (html, line) = find(desk, values, *most)
    assert html is None and line and line.state == "error" and "at least one budget" in line.sentence


def test_limits_are_bytes_ms_and_nats() -> None:
    assert limits_of((90, None, 0)) == Limits(size=90e6) and limits_of((None, 12.5, 0.1)) == Limits(ms=12.5, kl=0.1)


@pytest.mark.parametrize("level", ["live", "best"])
def test_it_is_found_made_and_compared(desk: Desk, values: Controls, level: str) -> None:
    whole = desk.bench.loaded.model.get_memory_footprint()  # type: ignore[operator]
    steps = list(find(desk, values._replace(level=level), 0.3 * whole / 1e6, None, None))
    assert all(html is None for html, _ in steps[:-1]) and steps[0][1] and steps[0][1].state == "busy"
    html, line = steps[-1]
    assert html and line and line.state == "done"
    recipes = [m.recipe for m in desk.bench.history() if m.quality]
    assert len(recipes) == 2 and all(f"?{r.to_query()}".replace("&", "&amp;") in html for r in recipes)
    assert all(m.size.file_bytes.value <= 0.3 * whole for m in desk.bench.history())
    assert html.count('class="number"') == html.count('class="badge') == 6
    kept = re.findall(r'<i style="--bits:(\d+)" title="([^"]+)">', html)
    assert len(kept) == 15 == len(dict(reversed(each) for each in kept))  # seven in each of two blocks, and the table
    made = plans(desk.bench.variants.predictor(recipes[0]).targets, next(r for r in recipes if r.layers))
    bits = {name: plan.factors[0][1].bits if plan.factors else 16 for name, plan in made.items()}
    told = {title.partition(":")[0]: int(width) for width, title in kept}
    assert told["q_proj 1"] == bits["model.layers.1.self_attn.q_proj"]
    assert told["embed_tokens -1"] == bits["model.embed_tokens"]


def test_time_is_told_where_it_is_a_limit_and_too_little_of_anything_is_a_sentence(
    desk: Desk, values: Controls
) -> None:
    *_, (html, line) = find(desk, values, None, 1000, None)
    assert html and line and line.state == "done" and html.count('class="number"') == 10
    *_, (html, line) = find(desk, values, 0.0001, None, None)
    assert html is None and line and "the least is" in line.sentence
