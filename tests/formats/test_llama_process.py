"""llama.cpp itself, where it is installed: families of all kinds, opened and compared."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from torch import Tensor

from explorer.formats import checking
from explorer.formats.checking import compared, right_of
from explorer.measure.quality import Passage, decoded
from explorer.model.compressing import compress
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.recipe import Recipe
from tests.formats.conftest import written_gguf


@pytest.mark.skipif(find_spec("llama_cpp") is None, reason="needs llama-cpp-python")
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "gpt2", "starcoder2"])
def test_llama_cpp_predicts_what_the_variant_predicts(
    tiny_of: Callable[..., Loaded], family: str, tmp_path: Path, ids: Tensor
) -> None:
    loaded = tiny_of(family)
    model = compress(loaded.model, Recipe(bits=6, quant="rtn"), Facts())
    right = right_of(decoded(model).float(), [Passage(kind="a", ids=ids)])
    file = written_gguf(model, loaded, tmp_path / "model.gguf")
    found = [each for each in checking.by_llama_cpp(file, right, loaded.tokenizer) if each is not None]
    check = compared(right, found[-1], loaded.tokenizer, file.stat().st_size)
    assert check.kl.value < 0.01 and check.texts is not None and check.texts.value == check.texts.n
