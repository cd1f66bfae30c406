"""What a family cannot do is said, by what its parts are called."""

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from explorer.layers.targets import blocks_of
from explorer.layers.uniform import uniform
from explorer.model.structure import reduce
from tests.model.smaller import GROUPED


def test_what_a_family_cannot_do_is_said() -> None:
    plain = {name: size for name, size in GROUPED.items() if name not in ("intermediate_size", "num_key_value_heads")}
    with torch.device("meta"):
        fused = [
            uniform(GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=4, n_embd=64))),
            GPTNeoXForCausalLM(GPTNeoXConfig(**plain)),
        ]
        fixed = OPTForCausalLM(OPTConfig(**plain, ffn_dim=128, word_embed_proj_dim=64))
    for base in fused:
        with pytest.raises(ValueError, match="no separate query, key and value"):
            reduce(base, heads=0.5, facts=None)
    with pytest.raises(ValueError, match="has no setting for fewer attention heads"):
        reduce(fixed, heads=0.5, facts=None)


def test_norms_over_all_heads_keep_the_heads() -> None:
    with torch.device("meta"):
        base = Olmo2ForCausalLM(Olmo2Config(**GROUPED | {"hidden_size": 128}))
    with pytest.raises(ValueError, match="norms over all heads"):
        reduce(base, heads=0.5, facts=None)


def test_experts_are_not_made_narrower() -> None:
    config = MixtralConfig(**GROUPED, num_local_experts=2)
    with torch.device("meta"):
        base = uniform(MixtralForCausalLM(config))
    with pytest.raises(ValueError, match="without one plain MLP"):
        reduce(base, width=0.5, facts=None)
    assert len(blocks_of(reduce(base, depth=0.4, facts=None).model)[1]) == 3
