"""Scenes: recorded once, shown at once, and said to be recorded."""

import pytest

from explorer.ui.asks import Controls, controls_from
from explorer.ui.desk import Desk
from explorer.ui.panels.scenes import Scenes
from explorer.ui.view import NOTHING, Status, View
from explorer.values.presets import PRESETS

VALUES = Controls(prompt="the cat", length=4)


def line_of(view: View) -> Status:
    return view.status or Status("", "ready")


def test_prepared_scenes_are_shown_at_once_and_say_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = Scenes(desk)
    *_, (_, last) = scenes.prepare(VALUES, "a")
    assert "All scenes are recorded" in line_of(last).sentence
    monkeypatch.setattr(desk, "live", lambda *_, **__: pytest.fail("run again"))
    for name, recipe in PRESETS.items():
        ((controls, view),) = scenes.show(name, VALUES, "a")
        assert controls == controls_from(recipe)
        assert "Recorded at" in line_of(view).sentence and view.numbers and view.numbers.known
        assert view.texts and view.plane


def test_a_scene_that_was_never_run_is_run(desk: Desk) -> None:
    *_, (_, last) = Scenes(desk).show("Quarter", VALUES, "a")
    assert line_of(last).state == "done" and "Recorded" not in line_of(last).sentence


def test_another_prompt_has_scenes_of_its_own(desk: Desk) -> None:
    scenes = Scenes(desk)
    list(scenes.show("Half", VALUES, "a"))
    first = next(iter(scenes.show("Half", VALUES._replace(prompt="a dog"), "a")))
    assert first[1] == NOTHING


def test_nothing_is_said_to_be_recorded_before_there_is_a_model(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.bench.ready.clear()
    try:
        assert not [view for _, view in Scenes(desk).prepare(VALUES, "a") if "recorded" in line_of(view).sentence]
    finally:
        desk.bench.ready.set()


def test_stop_ends_the_preparation(desk: Desk) -> None:
    steps = Scenes(desk).prepare(VALUES, "a")
    next(steps), next(steps)
    desk.stop("a")
    *_, (_, last) = steps
    assert line_of(last).state == "stopped"
    with pytest.raises(StopIteration):
        next(steps)
