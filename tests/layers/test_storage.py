"""A Stored's buffers are all that it costs, and what it decodes to is what was put in."""

import pytest
import torch
from torch import Tensor

from explorer.layers.storage import Dense, Quantized, Sparse, Spec, Stored, empty, encode
from explorer.methods import prune, quantize

SPECS = [
    Spec(bits=bits, group=group, sparsity=sparsity)
    for bits in (16, 8, 5, 4, 3, 2)
    for group in (0, 32, 64)
    for sparsity in (0.0, 0.5, 0.9)
    if bits < 16 or group == 64
]
SHAPES = [(16, 64), (17, 100), (3, 5)]


def name(spec: Spec) -> str:
    return f"{spec.bits}b-g{spec.group}-s{spec.sparsity}"


def weight_of(shape: tuple[int, int] = (17, 100), dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(dtype)


def buffers(stored: Stored) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in stored.state_dict().items()}


@pytest.mark.parametrize("spec", SPECS, ids=name)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_decodes_to_its_shape_and_dtype_near_the_weight(
    spec: Spec, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    weight = weight_of(shape, dtype)
    dense = encode(weight, spec).dense()
    assert dense.shape == shape and dense.dtype == dtype and dense.isfinite().all()
    kept = weight * prune.mask_from_keys(prune.magnitude_keys(weight), spec.sparsity)
    step = (weight.float().amax() - weight.float().amin()) / (2**spec.bits - 1)
    assert ((dense - kept).float().abs().amax() <= (2 * step if spec.bits < 16 else 0)).all()


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_what_is_pruned_decodes_to_exactly_zero(spec: Spec) -> None:
    weight = weight_of()
    mask = prune.mask_from_keys(prune.magnitude_keys(weight), spec.sparsity)
    assert (encode(weight, spec).dense()[~mask] == 0).all()


@pytest.mark.parametrize("spec", SPECS, ids=name)
@pytest.mark.parametrize("shape", SHAPES)
def test_empty_has_the_buffers_of_encode(spec: Spec, shape: tuple[int, int]) -> None:
    assert buffers(empty(shape, spec, torch.bfloat16)) == buffers(encode(weight_of(shape, torch.bfloat16), spec))


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_the_buffers_alone_hold_the_weight(spec: Spec) -> None:
    stored = encode(weight_of(), spec)
    other = empty((17, 100), spec, torch.float32)
    other.load_state_dict(stored.state_dict())
    assert torch.equal(other.dense(), stored.dense())


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_rows_are_rows_of_dense(spec: Spec) -> None:
    stored = encode(weight_of(), spec)
    index = torch.tensor([[0, 16, 3], [3, 3, 1]])
    assert torch.equal(stored.rows(index), stored.dense()[index])


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_ranks_and_magnitudes_store_the_same(spec: Spec) -> None:
    weight = weight_of()
    ranks = prune.ranks(prune.magnitude_keys(weight))
    one, other = encode(weight, spec).state_dict(), encode(weight, spec, ranks).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one | other)


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_encoding_leaves_the_weight_as_it_was(spec: Spec) -> None:
    weight = weight_of()
    encode(weight, spec)
    assert torch.equal(weight, weight_of())


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_values_are_the_weights_that_are_kept(sparsity: float) -> None:
    stored = encode(weight_of(), Spec(bits=4, sparsity=sparsity))
    assert stored.values() == 17 * 100 * (1 - sparsity)


def test_each_spec_is_its_own_kind() -> None:
    weight = weight_of()
    assert isinstance(encode(weight, Spec()), Dense)
    assert isinstance(encode(weight, Spec(bits=4)), Quantized)
    sparse = encode(weight, Spec(bits=4, sparsity=0.5))
    assert isinstance(sparse, Sparse) and isinstance(sparse.kept, Quantized)


def test_a_dense_stored_shares_the_memory_it_was_given() -> None:
    weight = weight_of()
    assert encode(weight, Spec()).dense().data_ptr() == weight.data_ptr()


def test_ranges_of_a_pruned_group_are_those_of_its_survivors() -> None:
    weight = weight_of((4, 64))
    stored = encode(weight, Spec(bits=4, group=0, sparsity=0.5))
    assert isinstance(stored, Sparse) and isinstance(stored.kept, Quantized)
    kept = weight[prune.mask_from_keys(prune.magnitude_keys(weight), 0.5)].view(4, -1)
    assert torch.equal(stored.kept.scale, quantize.round_to_nearest(kept, 4, 0)[1])


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_a_weight_of_zeros_stays_zero(spec: Spec) -> None:
    assert (encode(torch.zeros(5, 40, dtype=torch.bfloat16), spec).dense() == 0).all()
