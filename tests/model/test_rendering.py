"""What the process that renders gives back."""

import json
import subprocess
import sys

import pytest

from explorer.model import rendering

ASK = {"messages": [{"role": "user", "content": "ünï"}], "tokens": {"bos_token": "<s>"}}


@pytest.mark.parametrize(
    "template, answer",
    [
        ("{{ bos_token }}{{ messages[0].content }}", {"text": "<s>ünï"}),
        ("{{ raise_exception('one\ntwo') }}", {"fault": "one"}),
        ("{{ 'a' * 70000 }}", {"fault": "it writes too much"}),
    ],
)
def test_it_answers_with_a_text_or_a_fault(
    template: str, answer: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "limit", lambda: None)  # or they would hold for all that is tested after this
    assert rendering.main({"template": template, **ASK}) == answer


def test_it_needs_neither_torch_nor_this_project() -> None:
    lines = f"import runpy, sys; runpy.run_path({rendering.__file__!r}, run_name='__main__')"
    code = f"{lines}; assert not {{'torch', 'explorer'}} & sys.modules.keys()"
    given = json.dumps({"template": "{{ messages[0].content }}", **ASK})
    command, pipes = [sys.executable, "-P", "-c", code], {"encoding": "utf-8", "check": True, "capture_output": True}
    done = subprocess.run(command, input=given, env={"USE_TORCH": "0", "PYTHONIOENCODING": "utf-8"}, **pipes)
    assert json.loads(done.stdout) == {"text": "ünï"}
