"""Layers that hold their weights as Stored."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from explorer.layers.kernels import Share
from explorer.layers.linear import CompressedEmbedding, CompressedLinear, settle_together
from explorer.layers.storage import Spec, Stored, encode
from explorer.methods import prune
from explorer.native import llvm

Case = tuple[Spec, float]  # a spec, and the share of zeros
SPECS = [(Spec(), 0.0), (Spec(bits=8, group=0), 0.0), (Spec(bits=6), 0.0), (Spec(bits=4), 0.0)]
SPECS += [(Spec(bits=4), 0.5), (Spec(), 0.5)]
BIAS = {True: torch.linspace(-1, 1, 20).bfloat16(), False: None}


def weight_of(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)).bfloat16()


def stored_of(rows: int, columns: int, case: Case) -> Stored:
    weight, (spec, sparsity) = weight_of(rows, columns), case
    if not sparsity:
        return encode(weight, spec)
    kept = prune.kept_columns(columns, sparsity)
    return encode(weight, replace(spec, kept=kept), prune.mask_from_keys(prune.keys(weight.abs()), kept))


@pytest.mark.parametrize("case", SPECS)
@pytest.mark.parametrize("biased", [True, False])
def test_one_factor_is_a_linear_layer_of_the_decoded_weight(case: Case, biased: bool) -> None:
    stored, bias = stored_of(20, 64, case), BIAS[biased]
    layer, x = CompressedLinear([[stored]], bias), torch.randn(2, 64).bfloat16()
    assert torch.allclose(layer(x), F.linear(x, stored.dense(), bias), rtol=2**-7, atol=2**-6)
    assert (layer.in_features, layer.out_features) == (64, 20)


@pytest.mark.parametrize("case", SPECS)
def test_two_factors_are_multiplied_right_one_first(case: Case) -> None:
    left, right = stored_of(20, 8, case), stored_of(8, 64, case)
    layer, x = CompressedLinear([[left, right]], None), torch.randn(2, 64).bfloat16()
    assert torch.equal(layer(x), F.linear(F.linear(x, right.dense()), left.dense()))
    assert (layer.in_features, layer.out_features) == (64, 20)


def branches_of(case: Case, shape: str) -> list[list[Stored]]:
    pair = [stored_of(20, 32, case), stored_of(32, 64, case)]
    mend = [stored_of(20, 4, (Spec(), 0.0)), stored_of(4, 64, (Spec(), 0.0))]
    single = [stored_of(20, 64, case)]
    return {"one": [single], "two": [pair], "one and a residual": [single, mend], "two and a residual": [pair, mend]}[
        shape
    ]


@pytest.mark.parametrize("case", SPECS)
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("shape", ["one", "two", "one and a residual", "two and a residual"])
def test_settling_changes_where_it_runs_and_not_what_it_says(case: Case, shape: str, scaled: bool) -> None:
    scale = torch.linspace(0.5, 2, 64).bfloat16() if scaled else None
    branches = branches_of(case, shape)
    count = sum(map(len, branches))
    layer = CompressedLinear(branches, torch.ones(20).bfloat16(), scale)
    x = torch.randn(5, 64).bfloat16()
    before = layer(x).float()
    assert torch.allclose(before, x.float() @ layer.decoded().T + 1, rtol=0.05, atol=0.02 * float(before.abs().max()))
    layer.settle()
    assert layer.stored() == [] and len(layer.kernels) == count
    assert torch.allclose(layer(x).float(), before, rtol=0.02, atol=0.01 * float(before.abs().max()))
    assert layer.products == []  # there is a bias
    layer.bias = None
    assert len(layer.products) == (count if len(branches) == 1 and not scaled else 0)


def test_branches_and_the_scale_of_the_input_add_up_to_one_weight() -> None:
    """y = (A + B C) (x / s) + b, in numbers that need no rounding."""
    weight, left, right = (
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        torch.tensor([[1.0], [2.0]]),
        torch.tensor([[4.0, 8.0]]),
    )
    branches = [[encode(weight, Spec())], [encode(left, Spec()), encode(right, Spec())]]
    layer = CompressedLinear(branches, torch.tensor([0.5, 0.25]), torch.tensor([2.0, 4.0]))
    assert layer.decoded().tolist() == [[2.5, 2.5], [5.5, 5.0]]
    assert layer(torch.tensor([[2.0, 4.0]])).tolist() == [[15.5, 31.25]]


def test_a_layer_counts_the_weights_it_keeps() -> None:
    pruned = CompressedLinear([[stored_of(20, 64, (Spec(), 0.5))]], None)
    assert sum(part.values() for part in pruned.stored()) == 20 * 32
    factors = CompressedLinear([[encode(weight_of(20, 8), Spec()), encode(weight_of(8, 64), Spec())]], None)
    assert sum(part.values() for part in factors.stored()) == 8 * 84


@pytest.mark.parametrize("spec", [Spec(bits=bits, group=group) for bits in (8, 6, 5, 4, 3, 2) for group in (0, 32, 64)])
def test_an_embedding_gives_rows_of_the_decoded_matrix(spec: Spec) -> None:
    stored = encode(weight_of(50, 72), spec)
    ids = torch.randint(0, 50, (2, 9))
    assert torch.equal(CompressedEmbedding(stored)(ids), F.embedding(ids, stored.dense()))


@pytest.mark.parametrize("ranks", [(0, 0, 0), (40, 20, 7), (0, 20, 0)], ids=["whole", "factors", "both"])
@pytest.mark.parametrize("bits, group", [(4, 64), (3, 32), (8, 0), (6, 64)])
def test_siblings_in_one_product_give_what_each_gives_alone(bits: int, group: int, ranks: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    pairs = zip((64, 24, 16), ranks, strict=True)
    shapes = [((rows, rank), (rank, 64)) if rank else ((rows, 64),) for rows, rank in pairs]
    weights = [[torch.randn(shape).bfloat16() for shape in factors] for factors in shapes]

    def layers() -> list[CompressedLinear]:
        spec = Spec(bits=bits, group=group)
        return [CompressedLinear([[encode(w, spec) for w in factors]], None) for factors in weights]

    alone, together = layers(), layers()
    settle_together(together)
    for layer in alone:
        layer.settle()
    shared = {module.shared for layer in together for module in layer.kernels if isinstance(module, Share)}
    assert len(shared) == (0 if bits == 6 and not llvm.available() else 1)
    for x in (torch.randn(1, 3, 64).bfloat16(), torch.randn(1, 1, 64).bfloat16()):
        for one, other in zip(alone, together, strict=True):
            assert torch.equal(one(x), other(x))


def test_a_shared_product_is_never_that_of_another_input() -> None:
    weights = [torch.randn(16, 64).bfloat16() for _ in range(2)]
    layers = [CompressedLinear([[encode(w, Spec(bits=4))]], None) for w in weights]
    settle_together(layers)
    x, y = torch.randn(1, 64).bfloat16(), torch.randn(1, 64).bfloat16()
    expected = layers[1](y).clone()
    layers[0](x)
    assert torch.equal(layers[1](y), expected)
