"""`page`: what runs where no command is named. Workbench → page → an address, and the browser that shows it."""

import argparse
import os
import signal
import sys
import threading
import webbrowser

from explorer.commands.options import Commands, device
from explorer.model.preflight import ModelRejected
from explorer.ui.direct import direct
from explorer.ui.standing import standing
from explorer.workbench.workbench import Workbench


def add(commands: Commands, model: argparse.ArgumentParser, _: argparse.ArgumentParser) -> None:
    """`page`."""
    parser = commands.add_parser("page", parents=[model], help="the interactive page; runs where no command is named")
    parser.add_argument("--host", help="address to listen on (this computer only by default)")
    parser.add_argument("--port", type=int, help="port (first free one from 7860 by default)")
    parser.add_argument("--root-path", default="", metavar="PATH", help="the path, or address, at which a proxy has it")
    parser.add_argument("--embed", nargs="+", default=[], metavar="ORIGIN", help="sites that may show it in a frame")
    parser.add_argument("--mcp", action="store_true", help="serve assistants too: the API's endpoints as MCP tools")
    parser.add_argument("--no-browser", action="store_true", help="open no browser; without a display none is opened")
    parser.add_argument(
        "--models", help="names that visitors may open, with commas between; this computer's own user any"
    )
    parser.set_defaults(run=_page)


def _page(options: argparse.Namespace) -> None:
    where = standing(
        os.environ, options.host, options.port, root=options.root_path, frames=options.embed, tools=options.mcp
    )
    bench = Workbench(options.model, device(options.device))
    with direct():  # gradio makes an HTTP client when it is imported, and asks the page whether it is there
        from explorer.ui.page import build  # noqa: PLC0415  # two seconds that no other command should wait for
        from explorer.ui.serving import launch  # noqa: PLC0415

        models = [name.strip() for name in options.models.split(",") if name.strip()] if options.models else None
        page = build(bench, where.alone, models and list(dict.fromkeys([options.model, *models])))
        address = launch(page, where)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what ends a service ends it as Ctrl+C does
    try:
        print(f"The page is at {address} (Ctrl+C stops it).", flush=True)
        if has_display() and not options.no_browser:
            webbrowser.open(address)
        try:
            bench.load(lambda message: print(message, flush=True))
            bench.work_ahead()
        except ModelRejected as rejected:
            print(f"{rejected} The page stays open: choose another model there.", flush=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        print("Stopped.", flush=True)
    finally:
        page.close(verbose=False)  # open pages hear the end of what they listen to, not a broken line


def has_display() -> bool:
    """Whether a browser would be seen here: a desktop, and nobody who came over SSH."""
    if os.environ.get("SSH_CONNECTION"):
        return False
    desktop = sys.platform in ("win32", "darwin")
    return desktop or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
