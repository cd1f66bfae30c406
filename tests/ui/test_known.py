"""Whatever was tried, and in whatever order: no two figures that are shown together are of different texts."""

import math
import random

from explorer.ui.desk import Desk
from explorer.ui.panels import plot
from explorer.values.recipe import Recipe


def test_all_perplexities_shown_together_have_one_original(desk: Desk) -> None:
    dice = random.Random(7)
    bench = desk.bench
    recipes = [Recipe(bits=b, quant="rtn", sparsity=s, prune="magnitude") for b in (16, 8, 4, 3) for s in (0, 0.3, 0.6)]
    for place, recipe in enumerate(dice.sample(recipes, len(recipes)) * 2):
        if place == 9:
            for _ in bench.read_original():  # "in full" reads all
                pass
        else:
            for _ in bench.read_original(bench.judged_tokens[1]):
                pass
        for quality in bench.evaluate(recipe, dice.choice((20, 60, 200))):
            bench.record(bench.variant(recipe), quality=quality)
        rows = [m for m in bench.history() if m.quality]
        originals = {m.quality.perplexity_original.value for m in rows if m.quality}
        assert len(originals) == 1
        scale = plot.Scale(originals.pop())
        for m in rows:
            assert m.quality
            shown = desk.known.numbers(m.recipe).known
            assert shown and shown.quality and shown.quality == m.quality
            assert math.isclose(scale.of(m), m.quality.perplexity.value, rel_tol=1e-9)
            ratio = m.quality.perplexity.value / m.quality.perplexity_original.value
            assert math.isclose(ratio, m.quality.ppl_ratio.value, rel_tol=1e-6)
