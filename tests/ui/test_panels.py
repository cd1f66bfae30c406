"""A panel is one file, one table of words, and one line of the page: tried on a copy, with a toy."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOY = '''"""A toy: how often its button was pressed."""

import gradio as gr

from explorer.ui.stage import QUICK, Stage, html
from explorer.ui.words import words

WORDS = words("toy")


def place(stage: Stage) -> None:
    """A button and what it answers."""
    button = gr.Button(WORDS["button"])
    answer = html("", elem_id="toy-answer")
    stage.later(lambda: button.click(lambda: WORDS["answer"], None, answer, api_name="toy", **QUICK))
'''
WORDS = 'tab = "A toy"\nbutton = "Press"\nanswer = "pressed"\n'
LINE = '    "toy",\n'
SHOW = """import json
from explorer.ui.page import build
from explorer.workbench.workbench import Workbench
config = build(Workbench("nowhere")).get_config_file()
seen = [c["props"].get("label") or c["props"].get("elem_id") or c["type"] for c in config["components"]]
print(json.dumps([seen, [d["api_name"] for d in config["dependencies"]]]))"""


def page_of(home: Path) -> list[list[str]]:
    """What the page of a checkout consists of: its parts and its endpoints."""
    told = subprocess.run([sys.executable, "-c", SHOW], cwd=home, check=True, capture_output=True, text=True).stdout
    found: list[list[str]] = json.loads(told.splitlines()[-1])
    return found


def test_a_panel_is_a_file_a_table_and_a_line(tmp_path: Path) -> None:
    for part in ("explorer", "assets"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    without = page_of(tmp_path)
    assert "A toy" not in without[0] and "toy" not in without[1]

    file, table, page = (
        tmp_path / "explorer/ui/panels/toy.py",
        tmp_path / "assets/words/toy.toml",
        tmp_path / "explorer/ui/page.py",
    )
    file.write_text(TOY)
    table.write_text(WORDS)
    before = page.read_text()
    page.write_text(before.replace('    "requirements",\n', '    "requirements",\n' + LINE))
    assert len(page.read_text().splitlines()) == len(before.splitlines()) + 1
    parts, endpoints = page_of(tmp_path)
    assert {"A toy", "toy-answer"} <= {*parts} and "toy" in endpoints
    assert [name for name in endpoints if name != "toy"] == without[1]

    file.unlink(), table.unlink(), page.write_text(before)
    assert page_of(tmp_path) == without
