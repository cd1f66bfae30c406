"""A family's own names and kinds of parts are known for what they are."""

from torch import nn
from transformers.pytorch_utils import Conv1D

from explorer.model.families import is_conv1d


def test_gpt2_s_own_linear_layer_is_told_from_a_plain_one() -> None:
    assert is_conv1d(Conv1D(3, 5)) and not is_conv1d(nn.Linear(5, 3))
