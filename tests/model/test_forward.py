"""Going on with a text as each family does it, and with none of its caches where that goes wrong."""

import pytest
import torch

from explorer.layers.uniform import uniform
from explorer.model import forward
from explorer.model.decode import Batch, Continuation
from tests.families import model_of

KINDS = ("llama", "mamba", "rwkv", "recurrent_gemma", "falcon_h1", "qwen3_next", "openai-gpt", "gpt2", "lfm2")


@pytest.mark.parametrize("kind", KINDS)
def test_token_by_token_a_text_is_predicted_as_at_once(kind: str) -> None:
    model = uniform(model_of(kind, dtype=torch.float32)).requires_grad_(False)
    ids = torch.arange(14)[None] * 5 + 3
    text, batch = Continuation(model), Batch(model)
    text.feed(ids[:, :8])
    found = torch.stack([text.feed(ids[:, at : at + 1]) for at in range(8, 14)])
    with torch.no_grad():
        right = model(input_ids=ids, use_cache=False).logits[0].float()
    torch.testing.assert_close(found.log_softmax(-1), right[8:].log_softmax(-1), rtol=0, atol=2e-3)
    both = torch.cat([batch.feed(ids[:, :8]), batch.feed(ids[:, 8:])], dim=1)[0].float()
    torch.testing.assert_close(both.log_softmax(-1), right.log_softmax(-1), rtol=0, atol=2e-3)


def test_a_family_without_a_cache_reads_all_anew() -> None:
    model = uniform(model_of("openai-gpt")).requires_grad_(False)
    assert forward.cache_word(model) == ""
    text = Continuation(model)
    text.feed(torch.tensor([[5, 6, 7]])), text.feed(torch.tensor([[8]]))
    assert text._read is not None and text._read.tolist() == [[5, 6, 7, 8]] and text.length == 4


def test_a_cache_that_disagrees_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = uniform(model_of("llama")).requires_grad_(False)
    monkeypatch.setattr(forward, "_goes_on", {})
    monkeypatch.setattr(forward, "AGREE", -1.0)
    assert forward.cache_word(model) == ""
