"""A matrix is cut alike whichever way round it is stored."""

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
)

from explorer.layers.uniform import uniform
from explorer.model.opening import Loaded
from explorer.model.structure import reduce
from tests.model.smaller import Seen, logits


def test_gpt2_opened_as_linear_layers_is_cut_alike(gpt2: Loaded, ids: Tensor) -> None:
    plain = AutoModelForCausalLM.from_pretrained(gpt2.folder).eval()
    found = []
    for base in (uniform(plain), gpt2.model):
        with torch.no_grad():
            seen = Seen(base)
            seen.drop_scores = torch.tensor([0.0, 1.0])
        found.append(reduce(base, depth=0.5, width=0.5, facts=seen).model)
    assert isinstance(found[1].get_submodule("transformer.h.0.mlp.c_fc"), nn.Linear)
    torch.testing.assert_close(logits(found[1], ids), logits(found[0], ids), rtol=1e-4, atol=1e-4)
