"""Prefill and decode times: warmed up, fixed tokens, original and compressed in turns, medians with spread.

The machine is shared and noisy, so only what was timed in turns is compared. Tokenizing and sampling are left out.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from explorer.model.decode import Continuation, step_of
from explorer.model.generate import context_length
from explorer.records import Reading, Speed

PROMPT_TOKENS = 128


@dataclass
class Stopwatch:
    """The samples of one model, in ms."""

    model: nn.Module
    kernel: str
    prefill: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    prompt_tokens: int = PROMPT_TOKENS
    own_step: bool = True  # False: transformers' forward for every token

    def lap(self, prompt: Tensor, decode_steps: int, keep: bool = True) -> None:
        """One prefill and `decode_steps` decode steps after it."""
        text = Continuation(self.model, self.own_step)
        prefill = _timed(lambda: text.feed(prompt))
        decode = [_timed(lambda: text.feed(prompt[:, :1])) for _ in range(decode_steps)]
        if keep:
            self.prompt_tokens = prompt.shape[1]
            self.prefill.append(prefill)
            self.decode.extend(decode)

    def speed(self) -> Speed:
        """What was timed so far; at least one lap."""
        token = Reading.timing(self.decode)
        assert token.low is not None and token.high is not None
        rate = Reading(
            value=1e3 / token.value,
            unit="tokens/s",
            how="measured",
            low=1e3 / token.high,
            high=1e3 / token.low,
            n=token.n,
        )
        return Speed(
            prefill_ms=Reading.timing(self.prefill),
            ms_per_token=token,
            tokens_per_second=rate,
            kernel=self.kernel,
            loop="own step" if self.own_step and step_of(self.model) else "transformers",
            prompt_tokens=self.prompt_tokens,
            threads=torch.get_num_threads(),
        )


def time_in_turns(watches: Sequence[Stopwatch], *, rounds: int = 5, decode_steps: int = 8) -> Iterator[int]:
    """Fill the stopwatches round by round, in alternating order; yields the rounds done so that a caller can stop."""
    config: Any = watches[0].model.config
    device = next(watches[0].model.parameters()).device
    noise = torch.Generator().manual_seed(0)
    tokens = max(1, min(PROMPT_TOKENS, context_length(watches[0].model) - max(decode_steps, 2)))
    prompt = torch.randint(0, config.vocab_size, (1, tokens), generator=noise).to(device)
    for watch in watches:
        watch.lap(prompt[:, :1], 1, keep=False)
    for done in range(rounds):
        for watch in watches if done % 2 == 0 else reversed(watches):
            watch.lap(prompt, decode_steps)
        yield done + 1


def _timed(work: Callable[[], object]) -> float:
    _synchronize()
    started = time.perf_counter()
    work()
    _synchronize()
    return (time.perf_counter() - started) * 1e3


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
