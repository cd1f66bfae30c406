"""A prompt is a value: equal ones are one key, and whoever asks for one loads no torch."""

import subprocess
import sys

from explorer.values.prompt import Prompt


def test_equal_prompts_are_one_key() -> None:
    assert {Prompt(text="a"): 1}[Prompt(text="a", seed=0)] == 1 and Prompt(text="a") != Prompt(text="a", seed=1)


def test_what_a_visit_asks_for_needs_no_torch() -> None:
    script = "import sys, explorer.ui.asks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0
