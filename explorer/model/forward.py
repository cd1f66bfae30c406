"""How a model's own forward is asked to go on: families call their cache by different names, build it themselves, or
have none."""

from collections.abc import Callable, Mapping
from functools import cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from explorer.layers.linear import device_of

CACHES = ("cache", "past_key_values", "cache_params", "state", "mems", "past_buckets_states")
AGREE = 0.05  # nats of KL between going on and reading all anew
_goes_on: dict[type, bool] = {}


def cache_word(model: nn.Module) -> str:
    """What this model's forward calls its cache; '' where it has none, or goes on otherwise than it would by reading
    the whole text anew (tried once a class)."""
    word = _word(type(model))
    if word and type(model) not in _goes_on:
        _goes_on[type(model)] = True
        _goes_on[type(model)] = _agrees(model, word)
    return word if _goes_on.get(type(model)) else ""


def forward(model: nn.Module, ids: Tensor, kept: Any = None, all_positions: bool = False) -> tuple[Tensor, Any]:
    """ids (texts, tokens) after what is `kept` → logits (texts, tokens or 1, vocabulary) and the cache that
    transformers made of it, None where there is none."""
    word = cache_word(model)
    asked: dict[str, Any] = {"use_cache": bool(word)} | ({word: kept} if word and kept is not None else {})
    if not all_positions and "logits_to_keep" in _parameters(type(model).forward):
        asked["logits_to_keep"] = 1
    found = model(input_ids=ids, **asked)
    return found.logits if all_positions else found.logits[:, -1:], found.get(word)


@cache
def _parameters(forward: Callable[..., Any]) -> Mapping[str, Any]:
    return signature(forward).parameters


def _word(kind: type[nn.Module]) -> str:
    return next((word for word in CACHES if word in _parameters(kind.forward)), "")


@torch.inference_mode()
def _agrees(model: nn.Module, word: str) -> bool:
    """Whether two texts, gone on with token by token, are predicted as when they are read at once."""
    words: int = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator, union-attr]
    ids = ((7919 * torch.arange(24) + 11) % words).view(2, 12).to(device_of(model))
    try:
        right = model(input_ids=ids, use_cache=False).logits[:, 8:].float().log_softmax(-1)
        kept, found = None, []
        for part in (ids[:, :8], *torch.split(ids[:, 8:], 1, dim=1)):
            asked: dict[str, Any] = {} if kept is None else {word: kept}
            out = model(input_ids=part, use_cache=True, **asked)
            found.append(out.logits[:, -1].float())
            kept = out[word]
    except Exception:  # whatever a family raises whose cache does not serve
        return False
    apart = (right.exp() * (right - torch.stack(found[1:], dim=1).log_softmax(-1))).sum(-1)
    return bool(apart.median() < AGREE)
