"""Stored matrices of many shapes, and a machine without compiled products, for the tests of kernels."""

from collections.abc import Callable

import pytest
import torch

from explorer.layers import llvm
from explorer.layers.storage import Spec, Stored, encode
from explorer.methods import prune


@pytest.fixture
def stored_of() -> Callable[..., Stored]:
    """(rows, columns), spec and dtype → random weights in that form, the same ones every time."""

    def made(shape: tuple[int, int], spec: Spec, dtype: torch.dtype = torch.bfloat16) -> Stored:
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(4)) * 0.1
        mask = None if spec.kept is None else prune.mask_from_keys(prune.keys(weight.abs()), spec.kept)
        return encode(weight.to(dtype), spec, mask)

    return made


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only kernels that come with libraries."""
    monkeypatch.setattr(llvm, "available", lambda: False)
