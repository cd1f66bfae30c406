"""The two ends of a rotated model."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from explorer.layers.rotated import RotatedEmbedding, RotatedNorm, Rotation


def test_an_embedding_turns_its_rows_and_shares_its_table() -> None:
    table, ids = nn.Embedding(20, 64), torch.tensor([[3, 1, 4]])
    turned = RotatedEmbedding.of(table, Rotation(64))
    assert turned.weight is table.weight
    assert torch.allclose(turned(ids), Rotation(64).rotate(table(ids)), atol=1e-5)


def test_a_norm_of_turned_states_is_the_norm_of_the_states() -> None:
    norm, rotation, x = LlamaRMSNorm(64, 1e-5), Rotation(64), torch.randn(2, 5, 64)
    nn.init.normal_(norm.weight)
    turned = RotatedNorm(norm, rotation)
    assert torch.allclose(turned(rotation.rotate(x)), norm(x), atol=1e-4)
    inner = turned.inner()
    alone = F.rms_norm(rotation.rotate(x), (64,), inner.weight, inner.variance_epsilon)
    assert torch.allclose(turned.after(alone), norm(x), atol=1e-4)
