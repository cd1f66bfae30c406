"""A Stored's buffers are all that it costs, and what it decodes to is what was put in."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from explorer.layers.storage import (
    BitsAndBytes,
    Dense,
    Quantized,
    Sparse,
    Spec,
    Stored,
    empty,
    encode,
    stack,
    stored_bytes,
)
from explorer.methods import prune, quantize

Case = tuple[Spec, float, bool]  # a spec before its zeros are counted, their share, and whether rows may differ

SPECS: list[Case] = [
    (Spec(bits=bits, group=group), sparsity, flat)
    for bits in (16, 8, 7, 5, 4, 3, 2)
    for group in (0, 32, 64)
    for sparsity, flat in ((0.0, False), (0.5, False), (0.9, False), (0.5, True), (0.9, True))
    if bits < 16 or group == 64
]
BNB = [Spec(format="nf4"), Spec(format="nf4", double=True), Spec(format="fp4"), Spec(format="fp4", double=True)]
BNB += [Spec(format="int8")]
ALL: list[Case] = SPECS + [(spec, 0.0, False) for spec in BNB]
SHAPES = [(16, 64), (17, 100), (3, 5)]


def name(case: Case | Spec) -> str:
    spec, sparsity, flat = case if isinstance(case, tuple) else (case, 0.0, False)
    if spec.format != "grid":
        return spec.format + "-double" * spec.double
    return f"{spec.bits}b-g{spec.group}-s{sparsity}{'-flat' * flat}"


def spec_of(shape: tuple[int, int], case: Case) -> Spec:
    spec, sparsity, flat = case
    rows, columns = shape
    if not sparsity:
        return spec
    kept = max(1, round(rows * columns * (1 - sparsity))) if flat else prune.kept_columns(columns, sparsity)
    return replace(spec, kept=kept, flat=flat)


def mask_of(weight: Tensor, case: Case) -> Tensor | None:
    """The largest weights, of each row or of all."""
    _, sparsity, flat = case
    if not sparsity:
        return None
    if flat:
        kept = spec_of((weight.shape[0], weight.shape[1]), case).kept
        assert kept
        return prune.mask_of_layer(weight.abs(), kept)
    return prune.mask_from_keys(prune.keys(weight.abs()), prune.kept_columns(weight.shape[1], sparsity))


def put(weight: Tensor, case: Case) -> Stored:
    return encode(weight, spec_of((weight.shape[0], weight.shape[1]), case), mask_of(weight, case))


def weight_of(shape: tuple[int, int] = (17, 100), dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(dtype)


def buffers(stored: Stored) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in stored.state_dict().items()}


@pytest.mark.parametrize("case", SPECS, ids=name)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_decodes_to_its_shape_and_dtype_near_the_weight(
    case: Case, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    weight = weight_of(shape, dtype)
    dense = put(weight, case).dense()
    assert dense.shape == shape and dense.dtype == dtype and dense.isfinite().all()
    mask, bits = mask_of(weight, case), case[0].bits
    kept = weight if mask is None else weight * mask
    step = (weight.float().amax() - weight.float().amin()) / (2**bits - 1)
    assert ((dense - kept).float().abs().amax() <= (2 * step if bits < 16 else 0)).all()


@pytest.mark.parametrize("case", SPECS, ids=name)
def test_what_is_pruned_decodes_to_exactly_zero(case: Case) -> None:
    weight = weight_of()
    mask = mask_of(weight, case)
    if mask is not None:
        assert (put(weight, case).dense()[~mask] == 0).all() and int((~mask).sum()) > 0


@pytest.mark.parametrize("case", ALL, ids=name)
@pytest.mark.parametrize("shape", SHAPES)
def test_empty_has_the_buffers_of_encode(case: Case, shape: tuple[int, int]) -> None:
    assert buffers(empty(shape, spec_of(shape, case), torch.bfloat16)) == buffers(
        put(weight_of(shape, torch.bfloat16), case)
    )


@pytest.mark.parametrize("case", ALL, ids=name)
def test_the_buffers_alone_hold_the_weight(case: Case) -> None:
    stored = put(weight_of(), case)
    other = empty((17, 100), spec_of((17, 100), case), torch.float32)
    other.load_state_dict(stored.state_dict())
    assert torch.equal(other.dense(), stored.dense())


@pytest.mark.parametrize("case", ALL, ids=name)
def test_rows_are_rows_of_dense(case: Case) -> None:
    stored = put(weight_of(), case)
    index = torch.tensor([[0, 16, 3], [3, 3, 1]])
    assert torch.equal(stored.rows(index), stored.dense()[index])


@pytest.mark.parametrize("case", [case for case in SPECS if case[1] and not case[2]], ids=name)
def test_ranks_and_magnitudes_store_the_same(case: Case) -> None:
    weight, spec = weight_of(), spec_of((17, 100), case)
    mask = prune.mask_from_ranks(prune.ranks(prune.keys(weight.abs())), prune.kept_columns(weight.shape[1], case[1]))
    one, other = put(weight, case).state_dict(), encode(weight, spec, mask).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one | other)


@pytest.mark.parametrize("case", ALL, ids=name)
def test_encoding_leaves_the_weight_as_it_was(case: Case) -> None:
    weight = weight_of()
    put(weight, case)
    assert torch.equal(weight, weight_of())


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_values_are_the_weights_that_are_kept(sparsity: float) -> None:
    stored = put(weight_of(), (Spec(bits=4), sparsity, False))
    assert stored.values() == 17 * 100 * (1 - sparsity)


def test_each_spec_is_its_own_kind() -> None:
    weight = weight_of()
    assert isinstance(encode(weight, Spec()), Dense)
    assert isinstance(encode(weight, Spec(bits=4)), Quantized)
    sparse = put(weight, (Spec(bits=4), 0.5, False))
    assert isinstance(sparse, Sparse) and isinstance(sparse.kept, Quantized)


def test_a_dense_stored_shares_the_memory_it_was_given() -> None:
    weight = weight_of()
    assert encode(weight, Spec()).dense().data_ptr() == weight.data_ptr()


def test_ranges_of_a_pruned_group_are_those_of_its_survivors() -> None:
    weight = weight_of((4, 64))
    stored = put(weight, (Spec(bits=4, group=0), 0.5, False))
    assert isinstance(stored, Sparse) and isinstance(stored.kept, Quantized)
    kept = weight[prune.mask_from_keys(prune.keys(weight.abs()), prune.kept_columns(weight.shape[1], 0.5))].view(4, -1)
    assert torch.equal(stored.kept.scale, quantize.round_to_nearest(kept, 4, 0)[1])


@pytest.mark.parametrize("case", ALL, ids=name)
def test_a_weight_of_zeros_stays_zero(case: Case) -> None:
    assert (put(torch.zeros(5, 40, dtype=torch.bfloat16), case).dense() == 0).all()


@pytest.mark.parametrize("case", ALL, ids=name)
@pytest.mark.parametrize("shape", [*SHAPES, (300, 128)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_are_foretold_by_arithmetic(case: Case, shape: tuple[int, int], dtype: torch.dtype) -> None:
    stored = put(weight_of(shape, dtype), case).state_dict().values()
    assert stored_bytes(shape, spec_of(shape, case), dtype.itemsize) == sum(tensor.nbytes for tensor in stored)


@pytest.mark.parametrize("spec", BNB, ids=name)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_decode_to_their_shape_and_dtype_near_the_weight(
    spec: Spec, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    weight = weight_of(shape, dtype)
    stored = encode(weight, spec)
    dense = stored.dense()
    assert dense.shape == shape and dense.dtype == dtype and isinstance(stored, BitsAndBytes)
    furthest = {"nf4": 0.16, "fp4": 0.17, "int8": 0.5 / 127}[spec.format]  # half the widest gap of codes in [-1, 1]
    assert ((dense - weight).float().abs() <= (furthest + 0.02) * weight.float().abs().amax()).all()
    assert (dense - weight).float().norm() < 0.2 * weight.float().norm()


@pytest.mark.parametrize("spec", BNB, ids=name)
@pytest.mark.parametrize("value", [0.5, -0.5, 1e-6, 1e6])
def test_constant_blocks_come_back(spec: Spec, value: float) -> None:
    dense = encode(torch.full((5, 128), value), spec).dense()
    expected = min(value, 65504.0) if spec.format == "int8" else value
    assert torch.allclose(dense, torch.full((5, 128), expected), rtol=0.05, atol=0)


@pytest.mark.parametrize("format", ["nf4", "fp4"])
def test_double_quantization_is_smaller_and_hardly_worse(format: str) -> None:
    weight, shape = weight_of((300, 128)), (300, 128)
    single, double = Spec(format=format), Spec(format=format, double=True)
    assert stored_bytes(shape, double, 4) < stored_bytes(shape, single, 4) < stored_bytes(shape, Spec(bits=5), 4)
    errors = [float((encode(weight, spec).dense() - weight).norm()) for spec in (single, double)]
    assert errors[0] != errors[1] and errors[1] < 1.02 * errors[0]


@pytest.mark.parametrize("format, bits", [("nf4", 4), ("fp4", 4), ("int8", 8)])
def test_a_format_sets_its_bits(format: str, bits: int) -> None:
    assert Spec(format=format).bits == bits and Spec().bits == 16


@pytest.mark.parametrize(
    "parts, word",
    [
        ({"format": "nf4", "kept": 50}, "sparsity"),
        ({"format": "nf5"}, "nf5"),
        ({"format": "int8", "double": True}, "double"),
        ({"bits": 4, "double": True}, "double"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(parts: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Spec(**parts)  # type: ignore[arg-type]


def test_no_two_matrices_share_a_book() -> None:
    """Shared memory is counted once in a file, and the bytes would then depend on how many matrices there are."""
    one, other = (encode(weight_of(), Spec(format="nf4", double=True)) for _ in range(2))
    assert {t.data_ptr() for t in one.state_dict().values()}.isdisjoint(
        t.data_ptr() for t in other.state_dict().values()
    )


@pytest.mark.parametrize("spec", [Spec(bits=4), Spec(bits=3, group=32), Spec(bits=8, group=0), *BNB], ids=name)
def test_a_stack_holds_each_of_its_parts(spec: Spec) -> None:
    parts = [encode(weight_of((rows, 100)), spec) for rows in (7, 16, 1)]
    stacked = stack(parts)
    assert torch.equal(stacked.dense(), torch.cat([part.dense() for part in parts]))
    assert torch.equal(stacked.decoded(), stacked.dense())


def test_codes_found_elsewhere_are_stored_as_they_are() -> None:
    weight, spec = weight_of(), Spec(bits=3, group=32)
    codes, scale, zero = quantize.hqq(weight, 3, 32)
    stored = encode(weight.bfloat16(), spec, None, (scale, zero), codes)
    assert torch.equal(stored.codes(), codes) and torch.equal(stored.zeros(), zero)
    assert torch.equal(stored.dense(), quantize.dequantize(codes, scale, zero, 32, torch.bfloat16))


@pytest.mark.parametrize("flat", [False, True])
def test_codes_of_kept_values_are_stored_as_they_are(flat: bool) -> None:
    weight, case = weight_of(), (Spec(bits=3, group=32), 0.5, flat)
    mask, spec = mask_of(weight, case), spec_of((17, 100), case)
    assert mask is not None
    shape, _ = spec.inner(17)
    codes, scale, zero = quantize.hqq(weight.masked_select(mask).view(shape), 3, 32)
    stored = encode(weight, spec, mask, (scale, zero), codes)
    values = quantize.dequantize(codes, scale, zero, 32, torch.float32)
    assert torch.equal(stored.dense(), torch.zeros(17, 100).masked_scatter(mask, values))
    assert torch.equal(stored.decoded(), stored.dense())
