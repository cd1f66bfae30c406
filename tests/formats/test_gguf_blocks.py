"""Codes in ggml's blocks, decoded by the gguf package."""

from collections.abc import Callable

import gguf
import numpy as np
import pytest
import torch

from explorer.formats.gguf_blocks import bytes_of, encoded, type_of
from explorer.formats.leaves import Leaf
from explorer.layers.linear import CompressedLinear
from explorer.layers.storage import Spec, Stored


def leaf_of(stored: Stored) -> Leaf:
    return Leaf(name="w.weight", layer=CompressedLinear([[stored]], None))


@pytest.mark.parametrize(
    "bits, group, kind, off",
    [(2, 64, "Q4_1", 5e-4), (3, 32, "Q4_1", 5e-4), (4, 64, "Q4_1", 5e-4), (4, 0, "Q4_1", 5e-4)]
    + [(5, 32, "Q5_1", 5e-4), (6, 64, "Q8_0", 0), (7, 32, "Q8_0", 0), (8, 0, "Q8_0", 4e-3)],
)
@pytest.mark.parametrize("columns", [64, 160])
def test_codes_leave_as_they_are(
    stored_of: Callable[..., Stored], bits: int, group: int, kind: str, off: float, columns: int
) -> None:
    """But for scale times zero in half precision, and 8 bits in blocks of their own; relative to the largest weight."""
    stored = stored_of((48, columns), Spec(bits=bits, group=group), torch.float32)
    leaf = leaf_of(stored)
    assert type_of(leaf) == kind
    data = encoded(leaf, kind)
    assert data.shape[0] == 48 and data.nbytes == bytes_of(leaf, kind)
    decoded = gguf.dequantize(data, gguf.GGMLQuantizationType[kind])
    right = stored.dense().numpy()
    assert np.abs(decoded - right).max() <= off * np.abs(right).max()
    assert off or np.array_equal(decoded, right)


def test_int8_keeps_its_codes(stored_of: Callable[..., Stored]) -> None:
    stored = stored_of((8, 96), Spec(format="int8"), torch.float32)
    data = encoded(leaf_of(stored), "Q8_0")
    assert np.array_equal(data.view(np.int8).reshape(8, 3, 34)[..., 2:].reshape(8, 96), stored.packed.numpy())  # type: ignore[union-attr, operator]
    apart = np.abs(gguf.dequantize(data, gguf.GGMLQuantizationType.Q8_0) - stored.dense().numpy()).max()
    assert apart <= 5e-4 * stored.dense().abs().max()


@pytest.mark.parametrize("spec", [Spec(bits=4, kept=30), Spec(kept=30), Spec(format="nf4"), Spec(bits=4, group=20)])
def test_what_no_block_holds_leaves_as_the_numbers_that_are_multiplied(
    stored_of: Callable[..., Stored], spec: Spec
) -> None:
    stored = stored_of((8, 64), spec)
    assert type_of(leaf_of(stored)) == "BF16"
    data = encoded(leaf_of(stored), "BF16")
    assert torch.equal(torch.from_numpy(data).view(torch.bfloat16), stored.dense())


def test_ragged_rows_and_products_leave_in_plain_numbers(stored_of: Callable[..., Stored]) -> None:
    assert type_of(leaf_of(stored_of((8, 100), Spec(bits=4)))) == "BF16"
    left, right = stored_of((8, 4), Spec()), stored_of((4, 64), Spec(bits=4))
    leaf = Leaf(name="w.weight", layer=CompressedLinear([[left, right]], None))
    assert type_of(leaf) == "F16" and not leaf.exact
    assert torch.allclose(
        torch.from_numpy(encoded(leaf, "F16")).float(), left.dense().float() @ right.dense().float(), rtol=1e-3
    )


def test_a_number_beyond_half_precision_is_refused(stored_of: Callable[..., Stored]) -> None:
    huge = Leaf(name="w.weight", tensor=torch.full((2, 2), 1e5))
    with pytest.raises(OverflowError):
        encoded(huge, "F16")
