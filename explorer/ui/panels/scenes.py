"""Present mode: each preset is a scene, run to its end beforehand and shown as it was recorded."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from explorer.ui.asks import RECIPE_CONTROLS, Ask, Controls, controls_from
from explorer.ui.desk import STOPPED, Desk
from explorer.ui.stage import OWN, Stage
from explorer.ui.view import NOTHING, Status, View
from explorer.ui.words import words
from explorer.values.presets import PRESETS

WORDS = words("scenes")
Scene = tuple[tuple[Any, ...] | None, View]  # values of the recipe's controls, None for no change, and what is seen


def place(stage: Stage) -> None:
    """A button for each scene, and one that prepares them all; seen in present mode only."""
    scenes = Scenes(stage.desk)
    with gr.Row(elem_id="scenes"):
        acts = [gr.Button(f"{i} {name}", elem_classes="scene") for i, name in enumerate(PRESETS, 1)]
        rehearse = gr.Button(WORDS["prepare"], elem_id="prepare-scenes")

    def arrows() -> None:
        for name, act in zip(PRESETS, acts, strict=True):
            stage.scene(act.click, partial(scenes.show, name), api_visibility="private")
        stage.scene(rehearse.click, scenes.prepare, api_name="scenes", **OWN)

    stage.later(arrows)


class Scenes:
    """The scenes of one desk."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def show(self, name: str, values: Controls, session: str) -> Iterator[Scene]:
        """A scene as it was recorded for this prompt; run now where it never was."""
        asked = self._values(name, values)
        seen = self.desk.recorded(ask) if (ask := self._asked(asked)) else None
        yield asked[: len(RECIPE_CONTROLS)], seen or NOTHING
        if seen is None:
            for view in self.desk.live(asked, session):
                yield None, view

    def prepare(self, values: Controls, session: str) -> Iterator[Scene]:
        """Run every scene that was not recorded for this prompt, one after another."""
        for number, name in enumerate(PRESETS, 1):
            for controls, view in self.show(name, values, session):
                line = WORDS.say("preparing", number=number, scenes=len(PRESETS))
                yield controls, replace(view, status=Status(line, "busy"))
            ask = self._asked(self._values(name, values))
            if ask is None:  # there is no model yet, or what was asked for is said to be wrong
                return
            if self.desk.recorded(ask) is None:
                yield None, View(status=STOPPED)
                return
        yield None, View(status=Status(WORDS.say("ready", scenes=len(PRESETS)), "done"))

    def _values(self, name: str, values: Controls) -> Controls:
        return Controls(*controls_from(PRESETS[name]), *values[len(RECIPE_CONTROLS) :])

    def _asked(self, values: Controls) -> Ask | None:
        if not self.desk.bench.ready.is_set():
            return None
        try:
            return self.desk.ask(values)
        except ValueError:
            return None  # running it says why
