"""What is no causal language model is refused in one sentence, though transformers opens it."""

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel

from explorer.layers.uniform import uniform
from explorer.model.preflight import ModelRejected
from explorer.model.trial import check_causal, check_decoder
from tests.families import model_of

MASKED = ("bert", "roberta", "electra", "xlm-roberta", "xlnet")
HALVES = ("bart", "marian", "pegasus", "whisper")


@pytest.mark.parametrize("kind", MASKED)
def test_masked_models_are_refused(kind: str) -> None:
    with pytest.raises(ModelRejected, match="no causal model") as refusal:
        check_causal(uniform(model_of(kind, dtype=torch.float32)))
    assert refusal.value.code == "not-causal"


def test_bert_as_a_decoder_is_causal() -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    check_causal(BertLMHeadModel(BertConfig(**sizes, vocab_size=99, is_decoder=True)).eval())


@pytest.mark.parametrize("kind", HALVES)
def test_decoders_of_encoder_decoders_are_refused(kind: str) -> None:
    with pytest.raises(ModelRejected, match="decoder of an encoder-decoder"):
        check_decoder(kind)
    with pytest.raises(ModelRejected, match="decoder of an encoder-decoder"):
        check_causal(model_of(kind))


def test_what_predicts_otherwise_each_time_is_refused() -> None:
    with pytest.raises(ModelRejected, match="something else each time"):
        check_causal(model_of("reformer", dtype=torch.float32))


def test_what_needs_more_than_a_text_is_refused() -> None:
    with pytest.raises(ModelRejected, match="cannot be run on a text alone"):
        check_causal(model_of("gemma4_unified_assistant"))


@pytest.mark.parametrize("kind", ["llama", "mixtral", "mamba", "gpt_oss"])
def test_causal_models_pass(kind: str) -> None:
    check_decoder(kind)
    check_causal(uniform(model_of(kind)))
