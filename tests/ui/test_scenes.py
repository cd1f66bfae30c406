"""Scenes: recorded once, shown at once, and said to be recorded."""

import pytest

from explorer.presets import PRESETS
from explorer.ui.asks import Controls, controls_from
from explorer.ui.handlers import Desk, View
from explorer.ui.scenes import Scenes

VALUES = Controls(prompt="the cat", length=4)


def test_prepared_scenes_are_shown_at_once_and_say_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = Scenes(desk)
    *_, (_, last) = scenes.prepare(VALUES, "a")
    assert "All scenes are recorded" in (last.status or "")
    monkeypatch.setattr(desk, "live", lambda *_, **__: pytest.fail("run again"))
    for name, recipe in PRESETS.items():
        ((controls, view),) = scenes.show(name, VALUES, "a")
        assert controls == controls_from(recipe)
        assert "Recorded at" in (view.status or "") and "measured" in (view.cards or "")
        assert view.original and view.compressed and view.plot


def test_a_scene_that_was_never_run_is_run(desk: Desk) -> None:
    *_, (_, last) = Scenes(desk).show("Quarter", VALUES, "a")
    assert 'data-state="done"' in (last.status or "") and "Recorded" not in (last.status or "")


def test_another_prompt_has_scenes_of_its_own(desk: Desk) -> None:
    scenes = Scenes(desk)
    list(scenes.show("Half", VALUES, "a"))
    first = next(iter(scenes.show("Half", VALUES._replace(prompt="a dog"), "a")))
    assert first[1] == View()


def test_nothing_is_said_to_be_recorded_before_there_is_a_model(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.bench.ready.clear()
    try:
        assert not [view for _, view in Scenes(desk).prepare(VALUES, "a") if "recorded" in (view.status or "")]
    finally:
        desk.bench.ready.set()


def test_stop_ends_the_preparation(desk: Desk) -> None:
    steps = Scenes(desk).prepare(VALUES, "a")
    next(steps), next(steps)
    desk.stop("a")
    *_, (_, last) = steps
    assert 'data-state="stopped"' in (last.status or "")
    with pytest.raises(StopIteration):
        next(steps)
