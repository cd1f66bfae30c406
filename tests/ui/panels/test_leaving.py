"""What each format makes of a setting, and files that are whole or not there."""

from pathlib import Path

import pytest

from explorer.formats.catalogue import FORMATS
from explorer.ui.asks import Ask
from explorer.ui.desk import Desk
from explorer.ui.panels import leaving
from explorer.values.prompt import Prompt
from explorer.values.recipe import Recipe

ASK = Ask(recipe=Recipe(bits=4, quant="rtn"), prompt=Prompt(text="a"))


def test_every_format_says_what_it_makes_of_the_setting(desk: Desk) -> None:
    *_, (html, status) = leaving.offered(desk, ASK)
    assert html and status and status.state == "done"
    assert all(f">{name}</th>" in html for name in FORMATS) and "llama.cpp" in html and "calculated" in html


@pytest.mark.parametrize("name", ["explorer", "transformers", "gguf"])
def test_a_file_is_written_opened_again_and_said_to_be_there(desk: Desk, tmp_path: Path, name: str) -> None:
    steps = list(leaving.written(desk, True, ASK, name, str(tmp_path / "small")))
    html, status = steps[-1]
    assert len(steps) > 2 and html and "KL to the setting" in html and status and str(tmp_path / "small") in html
    assert any(file.suffix in (".gguf", ".safetensors") for file in (tmp_path / "small").iterdir())


def test_who_stops_leaves_nothing(desk: Desk, tmp_path: Path) -> None:
    steps = leaving.written(desk, True, ASK, "transformers", str(tmp_path / "small"))
    for _ in range(3):
        next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert [each for each in tmp_path.iterdir() if each.name != "cache"] == []


def test_refusals_are_one_sentence_each(desk: Desk, tmp_path: Path) -> None:
    for allowed, name, folder in (
        (False, "gguf", str(tmp_path / "x")),
        (True, "onnx", str(tmp_path / "x")),
        (True, "gguf", str(tmp_path)),
        (True, "gguf", str(tmp_path / "x.gguf")),
    ):
        with pytest.raises(ValueError, match=r"\.$"):
            list(leaving.written(desk, allowed, ASK, name, folder))
    assert [each for each in tmp_path.iterdir() if each.name != "cache"] == []
