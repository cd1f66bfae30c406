"""Present mode: each preset is a scene, run to its end beforehand and shown as it was recorded."""

from collections.abc import Iterator
from typing import Any

from explorer.presets import PRESETS
from explorer.ui import views
from explorer.ui.asks import RECIPE_CONTROLS, Ask, Controls, controls_from
from explorer.ui.handlers import Desk, View
from explorer.ui.views import say

Scene = tuple[tuple[Any, ...] | None, View]  # values of the recipe's controls, None for no change, and what is seen


class Scenes:
    """The scenes of one desk."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def show(self, name: str, values: Controls, session: str) -> Iterator[Scene]:
        """A scene as it was recorded for this prompt; run now where it never was."""
        asked = self._values(name, values)
        seen = self.desk.recorded(ask) if (ask := self._asked(asked)) else None
        yield asked[: len(RECIPE_CONTROLS)], seen or View()
        if seen is None:
            for view in self.desk.live(asked, session):
                yield None, view

    def prepare(self, values: Controls, session: str) -> Iterator[Scene]:
        """Run every scene that was not recorded for this prompt, one after another."""
        for number, name in enumerate(PRESETS, 1):
            for controls, view in self.show(name, values, session):
                line = say("preparing_scenes", number=number, scenes=len(PRESETS))
                yield controls, view._replace(status=views.status(line, "busy"))
            ask = self._asked(self._values(name, values))
            if ask is None:  # there is no model yet, or what was asked for is said to be wrong
                return
            if self.desk.recorded(ask) is None:
                yield None, View(status=views.status(say("stopped"), "stopped"))
                return
        yield None, View(status=views.status(say("scenes_ready", scenes=len(PRESETS)), "done"))

    def _values(self, name: str, values: Controls) -> Controls:
        return Controls(*controls_from(PRESETS[name]), *values[len(RECIPE_CONTROLS) :])

    def _asked(self, values: Controls) -> Ask | None:
        if not self.desk.bench.ready.is_set():
            return None
        try:
            return self.desk.ask(values)
        except ValueError:
            return None  # running it says why
