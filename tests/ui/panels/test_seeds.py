"""Three more seeds: each pair is of one seed, of both models, and the original does not meet itself."""

import re
from dataclasses import replace
from html import unescape

from explorer.ui.asks import Controls
from explorer.ui.desk import Desk
from explorer.ui.panels import seeds
from explorer.values.recipe import Recipe


def test_each_pair_is_what_both_models_write_with_that_seed(desk: Desk, values: Controls) -> None:
    asked = values._replace(bits=5, length=12, seed=4, temperature=0)  # the fifth stop
    *_, (html, line) = desk.study(asked, "a", lambda ask: seeds.found(desk, ask))
    assert html and line and line.state == "done"
    ask = desk.ask(asked)
    texts = re.findall(r'<div class="text"[^>]*>(.*?)</div>', html, re.DOTALL)
    plain = [unescape(re.sub(r"<[^>]+>", "", text)) for text in texts]
    written = list[str]()
    for seed in (5, 6, 7):
        prompt = replace(ask.prompt, seed=seed, temperature=seeds.TEMPERATURE)
        written += [[*desk.bench.write(side, prompt)][-1].text for side in (None, ask.recipe)]
    assert plain == written and len(set(written)) > 3
    assert ask.recipe != Recipe() and all(f"Seed {seed}:" in html for seed in (5, 6, 7))


def test_the_original_alone_is_one_sentence(desk: Desk, values: Controls) -> None:
    *_, (html, line) = desk.study(
        values._replace(sparsity=0, bits="16", head_bits="16"), "a", lambda ask: seeds.found(desk, ask)
    )
    assert html is None and line and line.state == "error" and "Move a slider first" in line.sentence
