import re
import threading
from collections.abc import Iterator
from functools import partial

import gradio as gr
import pytest

from explorer.ui import markup
from explorer.ui.asks import RECIPE_CONTROLS, Controls, ask_from, controls_from
from explorer.ui.desk import Desk
from explorer.ui.panels import cards, speed
from explorer.ui.panels.sliders import main_controls, method_controls
from explorer.ui.panels.speed import WORDS
from explorer.ui.run import PROMPT_TOKENS, TIMING_ROUNDS
from explorer.ui.view import NOTHING, Found, Status, View
from explorer.values.performance import Performance, Side
from explorer.values.presets import PRESETS
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench


def text_of(html: str | None) -> str:
    return re.sub(r"<[^>]*>", "", html or "")


def line_of(told: View | Found) -> Status:
    line = told.status if isinstance(told, View) else told[1]
    return line or Status("", "ready")


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
    assert len(views) == 1 and line_of(views[0]).state == "error" and "<script>" not in markup.status(line_of(views[0]))


def test_preview_gives_exact_bytes_without_touching_a_weight(desk: Desk, values: Controls) -> None:
    view = desk.preview(values, "a")
    recipe = ask_from(values).recipe
    assert desk.bench.measured(recipe) is None and view.texts is None
    assert "MBcalculated" in text_of(cards.draw(view))
    assert desk.bench.preview(recipe).file_bytes.value == desk.bench.variant(recipe).size.file_bytes.value
    assert Recipe.from_dict(dict(pair.split("=") for pair in (view.query or "").split("&"))) == recipe


def test_at_the_end_everything_belongs_to_the_new_setting(desk: Desk, values: Controls) -> None:
    views = run(desk, values)
    recipe = ask_from(values).recipe
    numbers, texts, line = (
        next(v for v in reversed([getattr(view, name) for view in views]) if v)
        for name in ("numbers", "texts", "status")
    )
    assert numbers.recipe == texts.recipe == recipe and line.state == "done"
    assert f'data-setting="{recipe.words()}"' in (cards.draw(View(numbers=numbers)) or "")
    assert "…" not in (cards.draw(View(numbers=numbers)) or "")
    known = desk.bench.measured(recipe)
    assert known and known.quality and known.speed and known.size.resident_bytes


def test_the_text_begins_before_anything_is_measured_and_the_rounds_go_on_after_the_end(
    desk: Desk, values: Controls
) -> None:
    measured, done = [], 0
    for number, view in enumerate(desk.live(values, "a")):
        known = desk.bench.measured(ask_from(values).recipe)
        measured.append((bool(view.texts), bool(known and known.quality), bool(known and known.speed)))
        if not done and line_of(view).state == "done":
            done = number
            assert known and known.speed and known.speed.prefill_ms.n == 1
    assert (True, False, False) in measured and done
    assert known and known.speed and known.speed.prefill_ms.n == TIMING_ROUNDS
    assert known.speed.prompt_tokens == PROMPT_TOKENS and known.speed.prefill_ratio and known.speed.prefill_ratio.n == 5


def test_a_newer_move_ends_the_older_work(desk: Desk, values: Controls) -> None:
    older = desk.live(values, "a")
    next(older)
    desk.preview(values._replace(bits="8"), "a")
    assert all(view == NOTHING for view in older)


def test_another_visit_s_move_does_not(desk: Desk, values: Controls) -> None:
    mine = desk.live(values, "a")
    next(mine)
    desk.preview(values._replace(bits="8"), "b")
    desk.stop("b")
    assert line_of(list(mine)[-1]).state == "done"


def test_a_slider_that_still_moves_starts_nothing(desk: Desk, values: Controls) -> None:
    desk.preview(values._replace(bits="8"), "a")
    assert list(desk.live(values, "a", moved=True)) == []
    assert desk.bench.measured(ask_from(values).recipe) is None


def test_stop_ends_within_a_step_and_keeps_what_was_measured(desk: Desk, values: Controls) -> None:
    work = desk.live(values._replace(length=200), "a")
    for view in work:
        if view.texts:
            break
    assert line_of(desk.stop("a")).state == "stopped"
    assert all(view == NOTHING for view in work)
    assert desk.bench.measured(ask_from(values).recipe)


def test_a_failure_is_one_sentence_and_the_next_request_works(
    desk: Desk, values: Controls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail at /some/path")

    with monkeypatch.context() as patch:
        patch.setattr(Workbench, "variant", broken)
        status = line_of(run(desk, values)[-1])
    assert status.state == "error" and "secret" not in status.sentence
    assert line_of(run(desk, values)[-1]).state == "done"


def test_a_prompt_that_is_too_long_is_one_sentence(desk: Desk, values: Controls) -> None:
    assert "too long" in line_of(run(desk, values._replace(prompt="a" * 30_000))[-1]).sentence


def test_going_back_to_a_setting_measures_nothing_again(desk: Desk, values: Controls) -> None:
    run(desk, values)
    known = desk.bench.measured(ask_from(values).recipe)
    again = run(desk, values)
    assert desk.bench.measured(ask_from(values).recipe) == known
    assert not any("Timing" in line_of(view).sentence for view in again)


def test_the_page_says_how_loading_goes_and_what_went_wrong() -> None:
    bench = Workbench("./no/such/folder")
    start = Desk(bench).start({})
    next(start)
    assert line_of(next(start)[1]).state == "loading"
    with pytest.raises(ValueError):
        bench.load()
    assert line_of(next(start)[1]).state == "error"


def test_the_address_sets_the_controls_that_it_names_at_once_and_none_later(desk: Desk) -> None:
    (first, _), *later = desk.start({"bits": "4", "sparsity": "0.5", "__theme": "dark"})
    named = {RECIPE_CONTROLS[i]: value for i, value in enumerate(first) if value is not None}
    assert named == {"sparsity": 50, "bits": 105, "quant": "search"} and line_of(later[-1][1]).state == "ready"
    assert {value for controls, _ in later for value in controls} == {None}
    (first, _), *later = desk.start({"bits": "5000"})
    assert {*first} == {None} and line_of(later[-1][1]).state == "error"


def test_a_page_whose_address_names_nothing_starts_at_the_original() -> None:
    with gr.Blocks():
        found = [control.value for control in (*main_controls(), *method_controls())]
    assert tuple(found) == controls_from(Recipe())


def test_two_visits_at_once_get_what_each_gets_alone(desk: Desk, values: Controls) -> None:
    asks = {"a": values, "b": values._replace(bits="8", sparsity=0), "c": values._replace(bits="16", keep=50)}
    alone = {name: _text(desk, ask, name) for name, ask in asks.items()}
    together: dict[str, str] = {}
    threads = [
        threading.Thread(target=lambda n=name, a=ask: together.__setitem__(n, _text(desk, a, n)))
        for name, ask in asks.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def _text(desk: Desk, values: Controls, session: str) -> str:
    return next(view.texts.compressed.text for view in reversed(run(desk, values, session)) if view.texts)


def test_speed_in_full_streams_and_ends_at_stop(desk: Desk, values: Controls, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = ask_from(values).recipe
    side = Side(speed=list(desk.bench.time(recipe, 2, 1, prompt_tokens=4))[-1][1])
    told: list[int] = []

    def study(_: Workbench, asked: Recipe) -> Iterator[Performance]:
        for number in range(3):
            told.append(number)
            yield Performance(recipe=asked, model="m", original=side, compressed=side)

    monkeypatch.setattr(speed, "profile", study)
    *_, (tables, status) = desk.study(values, "a", partial(speed.found, desk))
    assert WORDS["limits"]["title"] in (tables or "") and status and status.state == "done" and told == [0, 1, 2]
    told.clear()
    seen = []
    for found in desk.study(values, "a", partial(speed.found, desk)):
        seen.append(found)
        desk.stop("a")
    assert told == [0, 1]  # the step after the one that was shown is the last
    assert seen[-1] == (None, None)  # gradio sends the last part once more, after what Stop said


def test_where_the_last_changes_took_long_a_slider_waits_for_a_button(
    desk: Desk, values: Controls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(bits: str) -> Status:
        now = values._replace(bits=bits)
        desk.preview(now, "a")
        return line_of(list(desk.live(now, "a", moved=True))[-1])

    assert moved("8").state == moved("6").state == "done"  # quick so far
    monkeypatch.setattr("explorer.ui.patience.LONG_SECONDS", {True: 0.0, False: 0.0})
    status = moved("5")
    assert status.state == "waits" and "waits for Apply" in status.sentence
    assert line_of(run(desk, values._replace(bits="5"))[-1]).state == "done"  # the button
    assert moved("5").state != "waits"  # what is there already needs no waiting


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
    assert told[-1] == NOTHING and len(healed) == 1 and 2 <= healed[0] < 100


def test_a_fault_in_a_study_is_one_sentence(desk: Desk, values: Controls, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Workbench, asked: Recipe) -> Iterator[Performance]:
        raise RuntimeError("a bug")
        yield

    monkeypatch.setattr(speed, "profile", broken)
    *_, (tables, status) = desk.study(values, "a", partial(speed.found, desk))
    assert tables is None and status and status.state == "error" and "a bug" not in status.sentence
