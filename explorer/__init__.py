"""Size explorer: compress a causal language model live, and measure what that really costs."""

import ctypes
import importlib
import os
import sys
from typing import Any

__version__ = "0.9.0"

# Before gradio and the Hub's library: nothing that this program does is told to anybody.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Before torch: memory in pages of 2 MB. Small ones are handed out so slowly that a first pruning takes thrice as long.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# glibc keeps what is freed, in one arena, instead of asking the system for the same memory at every step (`mallopt`:
# M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD); `facts.release` gives it back after large work.
if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
    _mallopt: Any = getattr(ctypes.CDLL(None), "mallopt", None)
    for _what, _value in ((-8, 1), (-3, 32 << 20), (-1, 2**31 - 1), (-2, 64 << 20)) if _mallopt else ():
        _mallopt(_what, _value)


def load(folder: str | os.PathLike[str]) -> tuple[Any, Any, Any]:
    """An export of this program (docs/FORMAT.md), ready to run: its model, its tokenizer and its recipe.

    ValueError in one sentence for a folder that cannot be used.
    """
    places, exporting = importlib.import_module("pathlib"), importlib.import_module("explorer.model.exporting")
    return exporting.read(places.Path(folder))  # type: ignore[no-any-return]


def show(model: Any = None, tokenizer: Any = None, **how: Any) -> Any:
    """The page in a notebook's cell: of a Hub name, a folder or a .gguf file, of a model and its tokenizer that are
    there already, or of the default model. See `commands.notebook.show`."""
    from explorer.commands.notebook import show as shown  # noqa: PLC0415  # seconds, only where it is asked for

    return shown(model, tokenizer, **how)
