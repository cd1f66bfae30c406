"""Layers that hold their weights as Stored."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from explorer.layers.kernels import Share
from explorer.layers.linear import CompressedEmbedding, CompressedLinear, settle_together
from explorer.layers.storage import Spec, encode

SPECS = [Spec(), Spec(bits=8, group=0), Spec(bits=6), Spec(bits=4), Spec(bits=4, sparsity=0.5), Spec(sparsity=0.5)]


def weight_of(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)).bfloat16()


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("biased", [True, False])
def test_one_factor_is_a_linear_layer_of_the_decoded_weight(spec: Spec, biased: bool) -> None:
    stored, bias = encode(weight_of(20, 64), spec), torch.randn(20).bfloat16() if biased else None
    layer, x = CompressedLinear([stored], bias), torch.randn(2, 64).bfloat16()
    assert torch.allclose(layer(x), F.linear(x, stored.dense(), bias), rtol=2**-7, atol=2**-6)
    assert (layer.in_features, layer.out_features) == (64, 20)


@pytest.mark.parametrize("spec", SPECS)
def test_two_factors_are_multiplied_right_one_first(spec: Spec) -> None:
    left, right = encode(weight_of(20, 8), spec), encode(weight_of(8, 64), spec)
    layer, x = CompressedLinear([left, right], None), torch.randn(2, 64).bfloat16()
    assert torch.equal(layer(x), F.linear(F.linear(x, right.dense()), left.dense()))
    assert (layer.in_features, layer.out_features) == (64, 20)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("factors", [1, 2])
def test_settling_changes_where_it_runs_and_not_what_it_says(spec: Spec, factors: int) -> None:
    shapes = [(20, 64)] if factors == 1 else [(20, 32), (32, 64)]
    layer = CompressedLinear([encode(weight_of(*shape), spec) for shape in shapes], torch.ones(20).bfloat16())
    x = torch.randn(5, 64).bfloat16()
    before = layer(x).float()
    layer.settle()
    assert len(layer.factors) == 0 and len(layer.kernels) == factors
    assert torch.allclose(layer(x).float(), before, rtol=0.02, atol=0.01 * float(before.abs().max()))


def test_a_layer_counts_the_weights_it_keeps() -> None:
    pruned = CompressedLinear([encode(weight_of(20, 64), Spec(sparsity=0.5))], None)
    assert sum(part.values() for part in pruned.stored()) == 20 * 32
    factors = CompressedLinear([encode(weight_of(20, 8), Spec()), encode(weight_of(8, 64), Spec())], None)
    assert sum(part.values() for part in factors.stored()) == 8 * 84


@pytest.mark.parametrize("spec", [Spec(bits=bits, group=group) for bits in (8, 6, 5, 4, 3, 2) for group in (0, 32, 64)])
def test_an_embedding_gives_rows_of_the_decoded_matrix(spec: Spec) -> None:
    stored = encode(weight_of(50, 72), spec)
    ids = torch.randint(0, 50, (2, 9))
    assert torch.equal(CompressedEmbedding(stored)(ids), F.embedding(ids, stored.dense()))


@pytest.mark.parametrize("bits, group", [(4, 64), (3, 32), (8, 0), (6, 64)])
def test_siblings_in_one_product_give_what_each_gives_alone(bits: int, group: int) -> None:
    torch.manual_seed(0)
    weights = [torch.randn(rows, 64).bfloat16() for rows in (64, 24, 16)]

    def layers() -> list[CompressedLinear]:
        return [CompressedLinear([encode(w, Spec(bits=bits, group=group))], None) for w in weights]

    alone, together = layers(), layers()
    settle_together(together)
    for layer in alone:
        layer.settle()
    shared = {module.shared for layer in together for module in layer.kernels if isinstance(module, Share)}
    assert len(shared) == (0 if bits == 6 else 1)
    for x in (torch.randn(1, 3, 64).bfloat16(), torch.randn(1, 1, 64).bfloat16()):
        for one, other in zip(alone, together, strict=True):
            assert torch.equal(one(x), other(x))


def test_a_shared_product_is_never_that_of_another_input() -> None:
    weights = [torch.randn(16, 64).bfloat16() for _ in range(2)]
    layers = [CompressedLinear([encode(w, Spec(bits=4))], None) for w in weights]
    settle_together(layers)
    x, y = torch.randn(1, 64).bfloat16(), torch.randn(1, 64).bfloat16()
    expected = layers[1](y).clone()
    layers[0](x)
    assert torch.equal(layers[1](y), expected)
