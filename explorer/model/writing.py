"""The token loop: one model, one prompt, one seed → pieces of text as they come. Knows no recipe and no page.

torch's inference mode is thread-local and a generator may be resumed on another thread, so it never spans a yield.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from explorer.layers.linear import device_of
from explorer.model.chat import wrapping
from explorer.model.decode import Continuation
from explorer.model.tokens import front
from explorer.values.written import STOPPED, Piece

CONTEXTS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "context_length", "max_target_positions")
MAX_PROMPT_CHARACTERS, MAX_PROMPT_TOKENS = 20_000, 2048


def context_length(model: nn.Module) -> int:
    """Tokens that the model was made for; 2048 where its config says nothing."""
    config: Any = model.config
    text = config.get_text_config()
    found = (getattr(text, word, None) for word in CONTEXTS)
    return next((length for length in found if isinstance(length, int) and length > 0), 2048)


def vocabulary(model: nn.Module) -> int:
    """Tokens that the model has a row for."""
    config: Any = model.config
    return int(config.get_text_config().vocab_size)


def prompt_ids(model: nn.Module, tokenizer: Any, prompt: str, *, chat: bool) -> Tensor:
    """`encode_prompt` for this model, which leaves room for at least one token."""
    return encode_prompt(tokenizer, prompt, chat=chat, limit=min(context_length(model) - 1, MAX_PROMPT_TOKENS))


def encode_prompt(tokenizer: Any, prompt: str, *, chat: bool, limit: int) -> Tensor:
    """Prompt → ids (1, tokens). `chat` wraps it in the model's chat template where it has one.

    Control tokens typed by a person stay ordinary text. ValueError in one sentence where it cannot be used.
    """
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise ValueError(f"The prompt is too long: {len(prompt):,} characters, at most {MAX_PROMPT_CHARACTERS:,}.")
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise ValueError("The prompt holds a broken character (a lone surrogate); remove it.") from None
    if chat and tokenizer.chat_template:
        before, after = template(tokenizer)
        ids = before + _ids(tokenizer, prompt, plain=True) + after
    else:
        ids = front(tokenizer) + _ids(tokenizer, prompt, plain=True)
    if not ids:
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if start is None:
            raise ValueError("Write a few words first: this model cannot start from nothing.")
        ids = [start]
    if len(ids) > limit:
        raise ValueError(f"The prompt is too long: {len(ids):,} tokens, at most {limit:,} for this model.")
    return torch.tensor([ids])


def template(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the chat template puts before and behind what a person writes."""
    before, after = wrapping(tokenizer)
    return _ids(tokenizer, before), _ids(tokenizer, after)


def stream(
    model: nn.Module,
    tokenizer: Any,
    ids: Tensor,
    *,
    new_tokens: int,
    seed: int = 0,
    temperature: float = 0.0,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Piece]:
    """Write up to `new_tokens` tokens after ids (1, tokens).

    Temperature 0 takes the likeliest token. Above it the choice is the Gumbel-max trick with noise from the seed and
    the step, so two models that get one seed differ only where their probabilities do.
    """
    new_tokens = min(new_tokens, context_length(model) - ids.shape[1])
    device = device_of(model)
    ends = _end_tokens(model, tokenizer)
    text_so_far = Continuation(model)
    step_ids, written, text = ids.to(device), list[int](), ""
    for step in range(new_tokens):
        started = time.perf_counter()
        logits = text_so_far.feed(step_ids)
        if not torch.isfinite(logits).all():
            yield Piece(
                text=text,
                token=-1,
                tokens=step,
                ms=0.0,
                stopped="This setting destroyed the model: its output is not a number.",
            )
            return
        if temperature > 0:
            noise = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**40)
            uniform = torch.rand(logits.shape, generator=noise).clamp_(1e-9, 1 - 1e-7)
            logits = logits / temperature - (-uniform.log()).log().to(device)
        token = int(logits.argmax())
        ended = token in ends
        if not ended:
            written.append(token)
            text = tokenizer.decode(written, skip_special_tokens=True).rstrip("\ufffd")
        reason = "The model ended its answer." if ended else STOPPED if stopped() else ""
        yield Piece(
            text=text,
            token=token,
            tokens=len(written),
            ms=(time.perf_counter() - started) * 1e3,
            stopped=reason,
        )
        if reason:
            return
        step_ids = torch.tensor([[token]], device=device)


def _ids(tokenizer: Any, text: str, plain: bool = False) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=plain)["input_ids"] if text else []
    return ids


def _end_tokens(model: nn.Module, tokenizer: Any) -> set[int]:
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = configured if isinstance(configured, list) else [configured, tokenizer.eos_token_id]
    return {token for token in ends if token is not None}
