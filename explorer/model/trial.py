"""Is this a causal language model at all? transformers opens masked models and halves of translators as such."""

import torch
from torch import nn

from explorer.layers.experts import stacks_of
from explorer.layers.linear import device_of
from explorer.model.loaders import is_half
from explorer.model.preflight import ModelRejected, first_line
from explorer.model.writing import context_length

TOKENS = 72  # of the text that is tried: some families go through text in pieces of 64
ROUNDED = 2.0**-5  # of the logits' size: experts that get other tokens beside the same ones round otherwise
CROSSED = ("encoder_attn", "crossattention", "cross_attention")  # modules that look at what an encoder read


def check_decoder(kind: str) -> None:
    """Refuse a type whose causal model is the decoder of an encoder-decoder, by itself. ModelRejected."""
    if is_half(kind):
        _refuse_half(kind)


@torch.inference_mode()
def check_causal(model: nn.Module) -> None:
    """Refuse a model whose predictions change with what comes behind them. ModelRejected in one plain sentence."""
    kind = type(model).__name__
    if any(name.rpartition(".")[2] in CROSSED for name, _ in model.named_modules()):
        _refuse_half(kind)
    words: int = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator, union-attr]
    length = min(TOKENS, context_length(model))
    ids = (torch.arange(length) * 7 + 5).remainder(words)[None].to(device_of(model))
    other = ids.clone()
    other[:, length // 2 :] = (other[:, length // 2 :] + 1) % words
    try:
        first, again, second = (
            model(input_ids=each, use_cache=False).logits[0, : length // 2].float() for each in (ids, ids, other)
        )
    except Exception as error:  # whatever a family raises that wants more than a text
        raise ModelRejected("cannot-run", f"{kind} cannot be run on a text alone: {first_line(error)}") from None
    if not first.isfinite().all():
        raise ModelRejected("overflow", "The model's predictions are not numbers in the format that it is stored in.")
    if not torch.equal(first, again):
        raise ModelRejected("random", f"{kind} predicts something else each time: nothing can be compared with it.")
    rounds = bool(stacks_of(model)) or first.is_cuda
    slack = ROUNDED * float(first.abs().max()) if rounds else 0.0
    if not torch.allclose(first, second, rtol=1e-5, atol=1e-6 + slack):
        sentence = f"{kind} is no causal model as it is configured: every word that it reads sees what comes after it,"
        raise ModelRejected("not-causal", f"{sentence} so it cannot write (a masked model, such as BERT).")


def _refuse_half(kind: str) -> None:
    sentence = f"{kind} is the decoder of an encoder-decoder: without what its encoder reads it cannot write."
    raise ModelRejected("encoder-decoder", sentence)
