"""What a card carries on."""

from pathlib import Path

import pytest

from explorer.formats.card import command, licence_of
from explorer.values.departure import Offer
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench


@pytest.mark.parametrize(
    "text, found",
    [
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# A", {"license": "apache-2.0"}),
        ("---\nlicense: other\nlicense_name: own\n---\n", {"license": "other", "license_name": "own"}),
        ("# A\nlicense: mit\n", {}),
        ("---\ntags: [a]\n---\nlicense: mit\n", {}),
        ("---\nlicense_name: own\n---\n", {}),
    ],
)
def test_the_licence_of_the_original_is_carried_on(tmp_path: Path, text: str, found: dict[str, str]) -> None:
    (tmp_path / "README.md").write_text(text)
    assert licence_of(tmp_path) == found
    assert licence_of(tmp_path / "nowhere") == {}


def test_the_command_makes_it_again(unprepared: Workbench) -> None:
    unprepared.name = "some/model name"
    said = command(unprepared, Recipe(bits=4, quant="gptq"), Offer(format="gguf"))
    assert said == "size-explorer export --model 'some/model name' --bits 4 --quant gptq --format gguf"
    said = command(unprepared, Recipe(depth=0.2), Offer(format="gguf", grid="Q4_K_M"))
    assert said == "size-explorer export --model 'some/model name' --depth 0.2 --format gguf --quant Q4_K_M"
