"""Layout and arrows: which control calls which handler, and where its answer goes. No number format, no model call."""

import json
import time
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from explorer import assets
from explorer.presets import PRESETS
from explorer.recipe import Recipe
from explorer.ui import guard, lesson_page, takes_page
from explorer.ui.asks import Controls
from explorer.ui.blind_test import BlindTest
from explorer.ui.budget_page import BudgetPage
from explorer.ui.charts import PLOTLY
from explorer.ui.controls import (
    budget_controls,
    main_controls,
    method_controls,
    presets,
    prompt_controls,
    rival_control,
    takes_controls,
)
from explorer.ui.handlers import Desk, View
from explorer.ui.rival_page import RivalPage
from explorer.ui.scenes import Scenes
from explorer.ui.studies import Studies
from explorer.ui.views import WORDS, header, pane, status
from explorer.workbench import Workbench


def build(bench: Workbench, alone: bool = True) -> gr.Blocks:
    """The page of one workbench; `alone` where it is served to this computer only."""
    desk = Desk(bench)
    studies, scenes, blind, rivals = Studies(desk), Scenes(desk), BlindTest(desk), RivalPage(desk, alone)
    budgets = BudgetPage(desk)
    gr.set_static_paths([PLOTLY])
    with gr.Blocks(title="Size explorer", analytics_enabled=False, fill_width=True, delete_cache=(3600, 3600)) as page:
        top = _html(header("", [], lesson_page.links()), elem_id="top")
        with gr.Row(elem_id="desk", equal_height=False):
            with gr.Column(scale=0, min_width=304, elem_id="controls"):
                buttons = presets()
                learned = _html("", elem_id="calibration")
                recipe = main_controls()
                with gr.Accordion(WORDS["controls"]["more"], open=False, elem_id="more"):
                    recipe += method_controls()
            with gr.Column(scale=1, min_width=320, elem_id="results"):
                with gr.Row(elem_id="numbers", equal_height=True):
                    cards = _html(_empty_cards(), elem_id="cards", min_width=320)
                    plot = _html(
                        "",
                        html_template='<div class="plot" role="img" aria-label="size against quality"></div>',
                        js_on_load=assets.read("plot.js").replace("PLOTLY", f"gradio_api/file={PLOTLY}"),
                        elem_id="plot",
                        min_width=320,
                    )
                with gr.Row(elem_id="ask", equal_height=True):
                    prompt = prompt_controls()
                    write = gr.Button("Write", variant="primary", min_width=70, scale=0, elem_id="write")
                    stop = gr.Button("Stop", min_width=70, scale=0, elem_id="stop")
                with gr.Row(elem_id="panes", equal_height=True):
                    original = _html(pane("Original", "", "", "", side="original"), min_width=320)
                    compressed = _html(pane("Compressed", "", "", "", side="compressed"), min_width=320)
        with gr.Accordion(WORDS["numbers"]["title"], open=False, elem_id="detail"):
            with gr.Tab(WORDS["tabs"]["this"]):
                _html(f'<p class="source">{WORDS["numbers"]["hint"]}</p>')
                whole = gr.Button(WORDS["numbers"]["button"], size="sm", scale=0, elem_id="measure-numbers")
                _html(f'<p class="source">{WORDS["trace"]["hint"]}</p>')
                spell = gr.Button(WORDS["trace"]["button"], size="sm", scale=0, elem_id="word-by-word")
                _html(f'<p class="source">{WORDS["layers"]["hint"]}</p>')
                each = gr.Button(WORDS["controls"]["measure_layers"], size="sm", scale=0, elem_id="measure-layers")
                with gr.Row(elem_id="inside-ask"):
                    which = gr.Dropdown([], label=WORDS["inside"]["matrix"], elem_id="matrix", scale=0, min_width=320)
                    peek = gr.Button(WORDS["inside"]["button"], size="sm", scale=0, elem_id="look-inside")
                _html(f'<p class="source">{WORDS["speed"]["hint"]}</p>')
                timing = gr.Button(WORDS["speed"]["button"], size="sm", scale=0, elem_id="measure-speed")
                _html(f'<p class="source">{WORDS["session"]["hint"]}</p>')
                tried = gr.Button(WORDS["session"]["button"], size="sm", scale=0, elem_id="show-session")
                figures = _html("", elem_id="numbers-table")  # below all controls: a table that arrives moves none
                spelled = _html("", elem_id="words-table")
                seen = _html("", elem_id="inside-table")
                times = _html("", elem_id="speed-table")
                table = _html("", elem_id="layer-table")
                history = _html("", elem_id="session-table")
            with gr.Tab(WORDS["blind"]["tab"]):
                _html(f'<p class="source">{WORDS["blind"]["hint"]}</p>')
                with gr.Row(elem_id="blind-ask"):
                    pair = gr.Button(WORDS["blind"]["pair"], size="sm", scale=0, elem_id="blind-pair")
                    sides = [gr.Button(WORDS["blind"][s], size="sm", scale=0, elem_id=f"blind-{s}") for s in ("a", "b")]
                guessing = _html("", elem_id="blind-table")
            with gr.Tab(WORDS["rival"]["tab"]):
                _html(f'<p class="source">{WORDS["rival"]["hint"]}</p>')
                with gr.Row(elem_id="rival-ask"):
                    rival = rival_control()
                    meet = gr.Button(WORDS["rival"]["button"], size="sm", scale=0, elem_id="meet-rival")
                against = _html("", elem_id="rival-table")
            with gr.Tab(WORDS["budget"]["tab"]):
                _html(f'<p class="source">{WORDS["budget"]["hint"]}</p>')
                with gr.Row(elem_id="budget-ask"):
                    most = budget_controls()
                    solve = gr.Button(WORDS["budget"]["button"], size="sm", scale=0, elem_id="find-best")
                best = _html("", elem_id="budget-table")
            with gr.Tab(WORDS["tabs"]["any"]) as any_model:
                _html(f'<p class="source">{WORDS["takes"]["hint"]}</p>')
                with gr.Row(elem_id="takes-ask"):
                    wanted = takes_controls(bench.name)
                needs = _html("", elem_id="takes-table")
        with gr.Row(elem_id="scenes"):
            acts = [gr.Button(f"{i} {name}", elem_classes="scene") for i, name in enumerate(PRESETS, 1)]
            rehearse = gr.Button(WORDS["scenes"]["prepare"], elem_id="prepare-scenes")
        line = _html(status(WORDS["status"]["loading"].format(message=""), "loading"), elem_id="status")
        apply = gr.Button(WORDS["controls"]["apply"], variant="primary", size="sm", elem_id="apply")
        address = _html("", html_template="<i></i>", js_on_load=assets.read("address.js"), elem_id="address")

        controls = [*recipe, *prompt]
        views = [cards, plot, original, compressed, line, address]
        stage = [*recipe, *views]
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "preprocess": False}
        heavy: dict[str, Any] = {
            "concurrency_id": "model",
            "concurrency_limit": 1,
            "show_progress": "hidden",
            "preprocess": False,
        }

        stops: dict[str, float] = {}  # when each visit last asked for one

        def preview(request: gr.Request, *values: Any) -> Any:
            return _parts(desk.preview(Controls(*values), _session(request)))

        def until_stop(work: Any) -> Any:
            """`work`, which a Stop ends that came after it was asked for, be it only in gradio's queue so far."""

            def run(request: gr.Request, *values: Any) -> Iterator[Any]:
                def stopped() -> bool:
                    return float(request.state.asked) < stops.get(_session(request), 0.0)

                if not stopped():
                    yield from work(request, *values)
                if stopped():  # said again: what was on its way to the page may have come after Stop's own answer
                    yield {line: status(WORDS["status"]["stopped"], "stopped")}

            return run

        @until_stop
        def live(request: gr.Request, *values: Any) -> Iterator[Any]:
            yield from map(_parts, desk.live(Controls(*values), _session(request), moved=True))

        @until_stop
        def now(request: gr.Request, *values: Any) -> Iterator[Any]:
            yield from map(_parts, desk.live(Controls(*values), _session(request)))

        def start(request: gr.Request) -> Iterator[Any]:
            for values, top_line, view in desk.start(dict(request.query_params)):
                first = [gr.skip()] * len(recipe) if values is None else list(values)
                yield [*first, top_line or gr.skip(), *_parts(view)]

        def leave(request: gr.Request) -> None:
            desk.leave(_session(request))
            stops.pop(_session(request), None)

        def halt(request: gr.Request) -> Any:
            stops[_session(request)] = request.state.asked
            return _parts(desk.stop(_session(request)))

        def streamed(work: Any) -> Any:
            @until_stop
            def run(request: gr.Request, *values: Any) -> Iterator[Any]:
                count = len(Controls._fields)
                for parts in work(Controls(*values[:count]), _session(request), *values[count:]):
                    yield [gr.skip() if part is None else part for part in parts]

            return run

        def staged(work: Any) -> Any:
            @until_stop
            def run(request: gr.Request, *values: Any) -> Iterator[Any]:
                for knobs, view in work(Controls(*values), _session(request)):
                    yield [*(knobs or [gr.skip()] * len(recipe)), *_parts(view)]

            return run

        def replot(*values: Any) -> Any:
            return desk.replot(Controls(*values)) or gr.skip()

        def matrices() -> Any:
            names = studies.matrices()
            return gr.Dropdown(names, value=names[len(names) // 2] if names else None)

        def calibration() -> Any:
            words, done = desk.calibration()
            return words, gr.Timer(active=not done)

        moved = [c.submit if isinstance(c, gr.Textbox) else c.input for c in recipe]
        gr.on(moved, preview, controls, views, trigger_mode="always_last", api_name="preview", **quick)
        rested = "(...values) => window.rested(values)"
        gr.on(moved, live, controls, views, trigger_mode="always_last", api_name="apply", js=rested, **heavy)
        gr.on(
            [write.click, prompt[0].submit, apply.click],
            now,
            controls,
            views,
            trigger_mode="always_last",
            api_name="write",
            **heavy,
        )
        spell.click(streamed(studies.words), controls, [spelled, line], api_name="words", **heavy)
        each.click(streamed(studies.layers), controls, [table, line], api_name="layers", **heavy)
        whole.click(streamed(studies.numbers), controls, [figures, line], api_name="numbers", **heavy)
        pair.click(streamed(blind.pair), controls, [guessing, line], api_name="blind", **heavy)
        meeting = gr.on(
            [meet.click, rival.submit],
            streamed(rivals.meet),
            [*controls, rival],
            [against, line],
            api_name="rival",
            **heavy,
        )
        finding = solve.click(streamed(budgets.find), [*controls, *most], [best, line], api_name="budget", **heavy)
        finding.then(replot, controls, plot, api_visibility="private", **quick)
        meeting.then(replot, controls, plot, api_visibility="private", **quick)
        for number, button in enumerate(sides):

            def vote(request: gr.Request, number: int = number) -> str:
                return blind.answer(number, _session(request))

            button.click(vote, None, guessing, api_visibility="private", **quick)
        changed = [any_model.select, *(control.change for control in wanted)]
        gr.on(changed, takes_page.answer, wanted, needs, api_name="takes", **quick)
        peek.click(streamed(studies.inside), [*controls, which], [seen, line], api_name="inside", **heavy)
        tried.click(studies.session, None, history, api_name="session", **quick)
        timing.click(streamed(studies.speed), controls, [times, line], api_name="speed", **heavy)
        clock = gr.Timer(2)
        clock.tick(calibration, None, [learned, clock], api_visibility="private", **quick)
        for name, act in zip(PRESETS, acts, strict=True):
            show = staged(partial(scenes.show, name))
            act.click(show, controls, stage, api_visibility="private", **heavy)
        rehearse.click(staged(scenes.prepare), controls, stage, api_name="scenes", **heavy)
        stop.click(halt, None, views, api_name="stop", **quick)
        for name, button in buttons.items():

            def choose(name: str = name) -> Any:
                return list(desk.preset(name))

            chosen = button.click(choose, None, recipe, api_visibility="private", **quick)
            shown = chosen.then(preview, controls, views, api_visibility="private", **quick)
            shown.then(now, controls, views, trigger_mode="always_last", api_visibility="private", **heavy)
        opened = page.load(
            start,
            None,
            [*recipe, top, *views],
            show_progress="hidden",
            concurrency_limit=16,
            api_visibility="private",
        )
        opened.then(now, controls, views, api_visibility="private", **heavy)
        opened.then(matrices, None, which, api_visibility="private", **quick)
        page.unload(leave)
    page.queue(max_size=64)
    return page


def launch(page: gr.Blocks, host: str, port: int | None) -> str:
    """Serve the page on the first free port from 7860 (or `port`), return its address."""
    page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        inbrowser=False,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        max_file_size="1mb",
        state_session_capacity=256,
        allowed_paths=[],
        theme=_theme(),
        head=f'<style>{assets.read("style.css")}</style><script type="module">{_page_script()}</script>',
        app_kwargs={"middleware": [*guard.middleware(host), Middleware(_dated)]},
    )
    return str(page.local_url)


def _theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        spacing_size="sm",
        radius_size="sm",
        text_size="sm",
        font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "sans-serif"],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "monospace"],
    ).set(
        body_text_color_subdued="#475569",
        body_text_color_subdued_dark="#cbd5e1",
        block_info_text_color="#475569",
        block_info_text_color_dark="#cbd5e1",
        button_primary_background_fill="#0b57a4",
        button_primary_background_fill_hover="#084482",
        button_primary_text_color="white",
        slider_color="#0b57a4",
        block_border_width="0px",
        block_label_text_weight="700",
        block_title_text_weight="700",
        button_large_text_weight="700",
        button_medium_text_weight="700",
        button_small_text_weight="700",
    )


def _html(value: str, **options: Any) -> gr.HTML:
    return gr.HTML(value, apply_default_css=False, **options)


def _parts(view: View) -> list[Any]:
    return [gr.skip() if part is None else part for part in view]


def _session(request: gr.Request) -> str:
    return str(request.session_hash)


def _page_script() -> str:
    return assets.read("page.js").replace("NAMES", json.dumps([field.name for field in fields(Recipe)]))


def _dated(app: ASGIApp) -> ASGIApp:
    """Writes into each request when it came; an event in gradio's queue keeps the request that asked for it."""

    async def dated(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["asked"] = time.monotonic()
        await app(scope, receive, send)

    return dated


def _empty_cards() -> str:
    return '<section class="cards" aria-label="numbers">' + '<article class="card"></article>' * 4 + "</section>"
