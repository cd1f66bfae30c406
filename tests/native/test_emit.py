"""What the package carries is what its C says."""

from importlib.util import find_spec

import pytest

from explorer.native import emit


@pytest.mark.skipif(not find_spec("ziglang"), reason="the compiler is not installed")
@pytest.mark.parametrize("name", emit.SOURCES)
def test_what_is_carried_comes_from_the_source_beside_it(name: str) -> None:
    assert emit.emitted(name) == (emit.FOLDER / f"{name}.ll").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", emit.SOURCES)
def test_nothing_in_it_is_one_processors(name: str) -> None:
    text = (emit.FOLDER / f"{name}.ll").read_text(encoding="utf-8")
    assert "target" not in text and "x86" not in text and "/" not in text.replace("// ", "")
