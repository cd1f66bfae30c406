"""Layers of one kind, whatever a family calls them."""

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from explorer.layers.dense import Linear
from explorer.layers.uniform import is_conv1d, uniform


def test_gpt2_s_own_linear_layer_is_told_from_a_plain_one() -> None:
    assert is_conv1d(Conv1D(3, 5)) and not is_conv1d(nn.Linear(5, 3))


def test_conv1d_becomes_a_linear_layer_that_knows_how_it_lay() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=32)).eval()
    ids = torch.arange(9)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
        after = uniform(model)(input_ids=ids).logits
    layer = model.transformer.h[0].attn.c_attn
    assert isinstance(layer, Linear) and layer.transposed and layer.weight.shape == (48, 16)
    assert not model.lm_head.transposed
    torch.testing.assert_close(after, before)
