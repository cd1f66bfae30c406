"""Names and order of rows, against what llama.cpp's converter makes of a model (`ggufs.forms`)."""

from collections.abc import Callable

import numpy as np
import pytest

from explorer.model.opening import Loaded
from tests.formats.conftest import as_gguf
from tests.model import ggufs


@pytest.mark.parametrize("family", sorted(ggufs.CONFIGS))
def test_tensors_are_those_of_llama_cpp_s_converter(tiny_of: Callable[..., Loaded], family: str) -> None:
    loaded = tiny_of(family)
    made = as_gguf(loaded.model, loaded)
    right = ggufs.forms(family, ggufs.tiny(family))
    assert {entry.name for entry in made.entries} == {*right}
    for entry in made.entries:
        data = entry.data()
        assert data.nbytes == entry.bytes and tuple(right[entry.name][0].shape) == entry.shape
        assert np.allclose(data, right[entry.name][0].detach().numpy(), atol=1e-6), entry.name


def test_what_has_no_name_there_is_refused(tiny_of: Callable[..., Loaded]) -> None:
    loaded = tiny_of("llama")
    loaded.model.register_buffer("surplus", loaded.model.lm_head.weight[:2].clone())  # type: ignore[union-attr, index]
    with pytest.raises(ValueError, match="no place for surplus"):
        as_gguf(loaded.model, loaded)
