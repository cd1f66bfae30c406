"""The page on an address: its looks, its script, and who may ask for it."""

import json
import time
from dataclasses import fields
from importlib.util import find_spec

import gradio as gr
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from explorer import assets
from explorer.ui import guard, pictures
from explorer.ui.standing import Standing
from explorer.values.recipe import Recipe


def launch(page: gr.Blocks, standing: Standing) -> str:
    """Serve the page where it is to stand, on the first free port from 7860 where none is given; its local address."""
    if standing.tools and not find_spec("mcp"):
        raise ValueError("--mcp needs one package more: pip install 'size-explorer[mcp]'.")
    page.launch(
        server_name=standing.host,
        server_port=standing.port,
        root_path=standing.root,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        inbrowser=False,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=standing.tools,
        enable_monitoring=False,
        run_history=False,
        footer_links=["api"],
        max_file_size="1mb",
        state_session_capacity=256,
        allowed_paths=[],
        theme=_theme(),
        head=f'<style>{assets.read("style.css")}</style><script type="module">{_page_script()}</script>'
        f'<script type="module">{pictures.script()}</script>',
        app_kwargs={"middleware": [*guard.middleware(standing), Middleware(_dated)]},
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


def _page_script() -> str:
    return assets.read("page.js").replace("NAMES", json.dumps([field.name for field in fields(Recipe)]))


def _dated(app: ASGIApp) -> ASGIApp:
    """Writes into each request when it came; an event in gradio's queue keeps the request that asked for it."""

    async def dated(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["asked"] = time.monotonic()
        await app(scope, receive, send)

    return dated
