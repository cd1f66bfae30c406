"""What asks the page itself asks it directly: no proxy of a school or firm stands between a computer and itself.
Nor does the page listen to gradio's variables, one of which serves any folder, another opens a tunnel."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def direct() -> Iterator[None]:
    """Within it every HTTP client that is made leaves the environment's proxies alone, whatever address it asks; what
    is made afterwards, as for downloads, has them again. Gradio is imported and the page launched without variables of
    gradio's. Not for several threads at once."""
    kept = os.environ.get("no_proxy")
    theirs = {name: os.environ.pop(name) for name in list(os.environ) if name.upper().startswith("GRADIO_")}
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["no_proxy"] = "*"  # goes before NO_PROXY, and before the system's settings
    try:
        yield
    finally:
        os.environ.update(theirs)
        if kept is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = kept
