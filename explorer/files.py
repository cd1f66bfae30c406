"""Files that this program keeps: where they lie, and how they are written, whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Where converted models and kept facts go; SIZE_EXPLORER_CACHE overrides the user's cache folder."""
    return Path(os.environ.get("SIZE_EXPLORER_CACHE") or platformdirs.user_cache_path("size-explorer"))


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside `file` to write to, which takes its place at the end; a failure leaves what was there before."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield partial
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
