"""What a workbench knows of a setting, as values for the page."""

from explorer.ui.view import Numbers, Plane
from explorer.values.contest import Contest
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench


class Known:
    """Of one workbench; `contest` is that with the rival met last, `budget` the bytes allowed last."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.contest: Contest | None = None
        self.budget: float | None = None

    def numbers(self, recipe: Recipe) -> Numbers:
        """What was measured, and what arithmetic gives where nothing was yet."""
        known = self.bench.measured(recipe)
        return Numbers(
            recipe=recipe,
            size=known.size if known else self.bench.preview(recipe),
            cost=self.bench.cost(recipe),
            known=known,
            original=self.bench.measured(Recipe()),
            predicted=self.bench.curves.told(recipe),
        )

    def plane(self, recipe: Recipe) -> Plane:
        """All settings that were tried, and this one."""
        return Plane(tried=self.bench.history(), now=recipe, contest=self.contest, budget=self.budget)
