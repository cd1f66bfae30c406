"""What a model's chat template puts before and behind what a person writes. Templates are programs of strangers: each
is run in a process of its own, under limits, and once."""

import json
import os
import subprocess
import sys
from functools import lru_cache
from typing import Any

from explorer.model import rendering

MARKER = "\u0001prompt\u0001"  # the template sees a marker, so that the prompt is tokenized on its own
PATIENCE = 60  # seconds, of which a slow disk may need most until the child has begun


def wrapping(tokenizer: Any) -> tuple[str, str]:
    """The texts before and behind the prompt. ValueError in one sentence where the template cannot be used."""
    tokens = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    try:
        rendered = _rendered(tokenizer.get_chat_template(), json.dumps(tokens, sort_keys=True))
    except ValueError as error:
        reason = (str(error).splitlines() or [""])[0][:200].rstrip(".")
        raise ValueError(f"This model's chat template fails ({reason}); switch the chat template off.") from None
    before, found, after = rendered.partition(MARKER)
    if not found:
        raise ValueError("This model's chat template leaves the prompt out; switch the chat template off.")
    return before, after


def try_out(tokenizer: Any) -> str:
    """Use the template once, and switch it off where it cannot be used; the sentence for that, '' where it can."""
    if not tokenizer.chat_template:
        return ""
    try:
        wrapping(tokenizer)
    except ValueError as error:
        tokenizer.chat_template = None
        return str(error).replace("switch the chat template off", "prompts are given to it as they are")
    return ""


@lru_cache(maxsize=16)
def _rendered(template: str, tokens: str) -> str:
    messages = [{"role": "user", "content": MARKER}]
    given = json.dumps({"template": template, "tokens": json.loads(tokens), "messages": messages})
    environment = os.environ | {"USE_TORCH": "0", "OPENBLAS_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-P", str(rendering.__file__)]
    try:
        child = subprocess.run(
            command, input=given, env=environment, encoding="utf-8", capture_output=True, timeout=PATIENCE, check=False
        )
        answer = json.loads(child.stdout)
    except subprocess.TimeoutExpired:
        raise ValueError("it does not come to an end") from None
    except ValueError:
        raise ValueError("it takes too long, or too much memory") from None  # the system ended it
    if "fault" in answer:
        raise ValueError(answer["fault"])
    return str(answer["text"])
