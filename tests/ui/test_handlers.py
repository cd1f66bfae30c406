import re
import threading
from collections.abc import Iterator

import pytest

from explorer.performance import Performance, Side
from explorer.presets import PRESETS
from explorer.recipe import Recipe
from explorer.ui import studies
from explorer.ui.asks import Controls, ask_from, controls_from
from explorer.ui.handlers import PROMPT_TOKENS, TIMING_ROUNDS, Desk, View
from explorer.ui.studies import Studies
from explorer.ui.views import WORDS
from explorer.workbench import Workbench


def text_of(html: str | None) -> str:
    return re.sub(r"<[^>]*>", "", html or "")


def run(desk: Desk, values: Controls, session: str = "a") -> list[View]:
    desk.preview(values, session)
    return list(desk.live(values, session))


@pytest.mark.parametrize("recipe", PRESETS.values())
def test_controls_and_recipe_are_each_other_s_inverse(recipe: Recipe) -> None:
    assert ask_from(Controls(*controls_from(recipe))).recipe == recipe


@pytest.mark.parametrize("nonsense", [None, "", "x", float("nan"), float("inf"), [], {}, -5, 999])
def test_nonsense_in_a_slider_goes_to_an_allowed_value(nonsense: object) -> None:
    ask = ask_from(Controls(sparsity=nonsense, keep=nonsense, length=nonsense, seed=nonsense, temperature=nonsense))
    assert 0 <= ask.recipe.sparsity <= 0.9 and 0.2 <= ask.recipe.keep <= 1 and 1 <= ask.prompt.new_tokens <= 400


def test_nonsense_in_a_choice_is_one_sentence(desk: Desk, values: Controls) -> None:
    views = run(desk, values._replace(group="<script>"))
    assert len(views) == 1 and "error" in (views[0].status or "") and "<script>" not in (views[0].status or "")


def test_preview_gives_exact_bytes_without_touching_a_weight(desk: Desk, values: Controls) -> None:
    view = desk.preview(values, "a")
    recipe = ask_from(values).recipe
    assert desk.bench.measured(recipe) is None and view.original is None
    assert "MBcalculated" in text_of(view.cards)
    assert desk.bench.preview(recipe).file_bytes.value == desk.bench.variant(recipe).size.file_bytes.value
    assert Recipe.from_dict(dict(pair.split("=") for pair in (view.query or "").split("&"))) == recipe


def test_at_the_end_everything_belongs_to_the_new_setting(desk: Desk, values: Controls) -> None:
    views = run(desk, values)
    recipe = ask_from(values).recipe
    last = {name: next(v for v in reversed([getattr(view, name) for view in views]) if v) for name in View._fields}
    assert f'data-setting="{recipe.words()}"' in last["cards"]
    assert recipe.words() in last["compressed"] and 'data-state="done"' in last["status"]
    assert "…" not in last["cards"]
    known = desk.bench.measured(recipe)
    assert known and known.quality and known.speed and known.size.resident_bytes


def test_the_text_begins_before_anything_is_measured_and_the_rounds_go_on_after_the_end(
    desk: Desk, values: Controls
) -> None:
    measured, done = [], 0
    for number, view in enumerate(desk.live(values, "a")):
        known = desk.bench.measured(ask_from(values).recipe)
        measured.append((bool(view.compressed), bool(known and known.quality), bool(known and known.speed)))
        if not done and 'data-state="done"' in (view.status or ""):
            done = number
            assert known and known.speed and known.speed.prefill_ms.n == 1
    assert (True, False, False) in measured and done
    assert known and known.speed and known.speed.prefill_ms.n == TIMING_ROUNDS
    assert known.speed.prompt_tokens == PROMPT_TOKENS and known.speed.prefill_ratio and known.speed.prefill_ratio.n == 5


def test_a_newer_move_ends_the_older_work(desk: Desk, values: Controls) -> None:
    older = desk.live(values, "a")
    next(older)
    desk.preview(values._replace(bits="8"), "a")
    assert all(view == View() for view in older)


def test_another_visit_s_move_does_not(desk: Desk, values: Controls) -> None:
    mine = desk.live(values, "a")
    next(mine)
    desk.preview(values._replace(bits="8"), "b")
    desk.stop("b")
    assert "done" in (list(mine)[-1].status or "")


def test_a_slider_that_still_moves_starts_nothing(desk: Desk, values: Controls) -> None:
    desk.preview(values._replace(bits="8"), "a")
    assert list(desk.live(values, "a", moved=True)) == []
    assert desk.bench.measured(ask_from(values).recipe) is None


def test_stop_ends_within_a_step_and_keeps_what_was_measured(desk: Desk, values: Controls) -> None:
    work = desk.live(values._replace(length=200), "a")
    for view in work:
        if view.compressed:
            break
    assert "stopped" in (desk.stop("a").status or "")
    assert all(view == View() for view in work)
    assert desk.bench.measured(ask_from(values).recipe)


def test_a_failure_is_one_sentence_and_the_next_request_works(
    desk: Desk, values: Controls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail at /some/path")

    with monkeypatch.context() as patch:
        patch.setattr(Workbench, "variant", broken)
        status = run(desk, values)[-1].status or ""
    assert 'data-state="error"' in status and "secret" not in status
    assert "done" in (run(desk, values)[-1].status or "")


def test_a_prompt_that_is_too_long_is_one_sentence(desk: Desk, values: Controls) -> None:
    assert "too long" in (run(desk, values._replace(prompt="a" * 30_000))[-1].status or "")


def test_going_back_to_a_setting_measures_nothing_again(desk: Desk, values: Controls) -> None:
    run(desk, values)
    known = desk.bench.measured(ask_from(values).recipe)
    again = run(desk, values)
    assert desk.bench.measured(ask_from(values).recipe) == known
    assert not any("Timing" in (view.status or "") for view in again)


def test_the_page_says_how_loading_goes_and_what_went_wrong() -> None:
    bench = Workbench("./no/such/folder")
    start = Desk(bench).start({})
    assert "loading" in (next(start)[2].status or "")
    with pytest.raises(ValueError):
        bench.load()
    assert "error" in (next(start)[2].status or "")


def test_the_address_sets_the_controls(desk: Desk) -> None:
    controls, header, view = list(desk.start({"bits": "4", "sparsity": "0.5", "__theme": "dark"}))[-1]
    assert controls == controls_from(Recipe(bits=4, sparsity=0.5)) and "ready" in (view.status or "")
    controls, _, view = list(desk.start({"bits": "5000"}))[-1]
    assert controls == controls_from(Recipe()) and "error" in (view.status or "")


def test_two_visits_at_once_get_what_each_gets_alone(desk: Desk, values: Controls) -> None:
    asks = {"a": values, "b": values._replace(bits="8", sparsity=0), "c": values._replace(bits="16", keep=50)}
    alone = {name: run(desk, ask, name)[-1].compressed or _text(desk, ask) for name, ask in asks.items()}
    together: dict[str, str] = {}
    threads = [
        threading.Thread(
            target=lambda n=name, a=ask: together.__setitem__(n, run(desk, a, n)[-1].compressed or _text(desk, a))
        )
        for name, ask in asks.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def _text(desk: Desk, values: Controls) -> str:
    ask = ask_from(values)
    return [piece.text for piece in desk.bench.write(ask.recipe, ask.prompt)][-1]


def test_speed_in_full_streams_and_ends_at_stop(desk: Desk, values: Controls, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = ask_from(values).recipe
    side = Side(speed=list(desk.bench.time(recipe, 2, 1, prompt_tokens=4))[-1][1])
    told: list[int] = []

    def study(_: Workbench, asked: Recipe) -> Iterator[Performance]:
        for number in range(3):
            told.append(number)
            yield Performance(recipe=asked, model="m", original=side, compressed=side)

    monkeypatch.setattr(studies, "profile", study)
    *_, (tables, status) = Studies(desk).speed(values, "a")
    assert WORDS["limits"]["title"] in (tables or "") and 'data-state="done"' in status and told == [0, 1, 2]
    told.clear()
    seen = []
    for found in Studies(desk).speed(values, "a"):
        seen.append(found)
        desk.stop("a")
    assert told == [0, 1]  # the step after the one that was shown is the last
    assert seen[-1] == (None, None)  # gradio sends the last part once more, after what Stop said


def test_where_the_last_changes_took_long_a_slider_waits_for_a_button(
    desk: Desk, values: Controls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(bits: str) -> str:
        now = values._replace(bits=bits)
        desk.preview(now, "a")
        return list(desk.live(now, "a", moved=True))[-1].status or ""

    assert 'data-state="done"' in moved("8") + moved("6")  # quick so far
    monkeypatch.setattr("explorer.ui.patience.LONG_SECONDS", {True: 0.0, False: 0.0})
    status = moved("5")
    assert 'data-state="waits"' in status and "waits for Apply" in status
    assert (run(desk, values._replace(bits="5"))[-1].status or "").count("done")  # the button
    assert 'data-state="waits"' not in moved("5")  # what is there already needs no waiting


def test_a_stop_keeps_what_healing_has_reached(desk: Desk, values: Controls) -> None:
    asked = values._replace(bits="4", quant="rtn", heal=100)
    desk.preview(asked, "a")
    told = []
    for view in desk.live(asked, "a"):
        told.append(view)
        curve = desk.bench.variants.curves.get(ask_from(asked).recipe)
        if curve and curve[-1].step >= 2:
            desk.stop("a")
    healed = [m.recipe.heal for m in desk.bench.history() if m.recipe.heal]
    assert told[-1] == View() and len(healed) == 1 and 2 <= healed[0] < 100


def test_a_fault_in_a_study_is_one_sentence(desk: Desk, values: Controls, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Workbench, asked: Recipe) -> Iterator[Performance]:
        raise RuntimeError("a bug")
        yield

    monkeypatch.setattr(studies, "profile", broken)
    *_, (tables, status) = Studies(desk).speed(values, "a")
    assert tables is None and 'data-state="error"' in (status or "") and "a bug" not in (status or "")


def test_why_preparing_ended_early_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.bench.preparation, "note", "Too little memory.")
    assert "Too little memory." in desk.calibration()[0] and desk.calibration()[1]
