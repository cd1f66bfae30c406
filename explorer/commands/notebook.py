"""`explorer.show(…)`: the page in the cell of a notebook, served on loopback by the notebook's own process."""

import logging
import threading
from collections.abc import Sequence
from html import escape
from typing import Any

from explorer.commands.options import device as device_named
from explorer.model.places import DEFAULT
from explorer.model.preflight import ModelRejected
from explorer.ui.direct import direct
from explorer.ui.standing import standing
from explorer.workbench.workbench import Workbench

NOTEBOOKS = ("http://localhost:*", "http://127.0.0.1:*")  # whose frames may show it: those of this computer


class Shown:
    """A page that is being served: its address, a frame of it for the cell, and its end."""

    def __init__(self, bench: Workbench, page: Any, address: str, height: int) -> None:
        self.bench, self.address = bench, address
        self._page, self._height = page, height

    def _repr_html_(self) -> str:
        at = escape(self.address)
        frame = (
            f'<iframe src="{at}" title="Size explorer" style="width:100%;height:{self._height}px;border:0"></iframe>'
        )
        return f'<p><a href="{at}" target="_blank" rel="noopener">Open in a tab: {at}</a></p>{frame}'

    def __repr__(self) -> str:
        return f"The page is at {self.address}"

    def close(self) -> None:
        """End the server; the address answers no more."""
        self._page.close(verbose=False)


def show(
    model: Any = None,
    tokenizer: Any = None,
    *,
    height: int = 900,
    port: int | None = None,
    device: str = "auto",
    embed: Sequence[str] = (),
) -> Shown:
    """Serve the page of a model and show it where it is the cell's last line: a Hub name, a folder, a .gguf file, or a
    model with its tokenizer, whose weights are shared and never touched. `embed`: origins of notebooks elsewhere.

    The model is opened behind the page, which says how far it is. ValueError in one sentence.
    """
    if model is not None and not isinstance(model, str) and tokenizer is None and not hasattr(model, "__fspath__"):
        raise ValueError("explorer.show(model, tokenizer) needs the tokenizer as well.")
    where = standing({}, port=port, frames=[*NOTEBOOKS, *embed])
    if tokenizer is None:
        bench = Workbench(DEFAULT if model is None else str(model), device_named(device))
    else:
        config = getattr(model, "config", None)
        called = str(getattr(config, "name_or_path", "") or type(model).__name__)
        bench = Workbench(called, given=(model, tokenizer))
    with direct():
        from explorer.ui.page import build  # noqa: PLC0415  # two seconds that no other command should wait for
        from explorer.ui.serving import launch  # noqa: PLC0415

        page = build(bench)
        address = launch(page, where)
    threading.Thread(target=_open, args=(bench,), name="open", daemon=True).start()
    return Shown(bench, page, address, height)


def _open(bench: Workbench) -> None:
    try:
        bench.load()
        bench.work_ahead()
    except ModelRejected:
        pass  # the page says why
    except Exception as fault:
        logging.getLogger(__name__).exception("opening failed")
        bench.problem = f"Opening failed ({type(fault).__name__}): the notebook's log says more."
