"""What asks the page itself asks it directly: no proxy of a school or firm stands between a computer and itself."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def direct() -> Iterator[None]:
    """Within it every HTTP client that is made leaves the environment's proxies alone, whatever address it asks; what
    is made afterwards, as for downloads, has them again. Not for several threads at once."""
    kept = os.environ.get("no_proxy")
    os.environ["no_proxy"] = "*"  # goes before NO_PROXY, and before the system's settings
    try:
        yield
    finally:
        if kept is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = kept
