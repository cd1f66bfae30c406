"""A program of its own: renders a chat template, which somebody else wrote, under limits of time and memory. Reads what
to render from its input, writes what came of it; see `chat`."""

import json
import sys
from contextlib import suppress
from typing import Any

LARGEST_TEXT, SECONDS, MEMORY = 65_536, 3, 2 * 2**30


def limit() -> None:
    """From here on, a few seconds of work and some memory; where the system has no such limits, the parent's clock."""
    with suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415  # not on Windows

        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(used.ru_utime + used.ru_stime) + SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def main(given: dict[str, Any]) -> dict[str, str]:
    from transformers.utils.chat_template_utils import render_jinja_template  # noqa: PLC0415  # the module is torch-free

    limit()
    try:
        texts, _ = render_jinja_template(
            conversations=[given["messages"]],
            chat_template=given["template"],
            add_generation_prompt=True,
            **given["tokens"],
        )
        return {"text": texts[0]} if len(texts[0]) <= LARGEST_TEXT else {"fault": "it writes too much"}
    except MemoryError:
        return {"fault": "it takes too much memory"}
    except Exception as error:  # whatever a template does wrong
        return {"fault": (str(error).strip().splitlines() or [type(error).__name__])[0][:200]}


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
