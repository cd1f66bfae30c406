"""Prefill and decode times: warmed up, fixed tokens, original and compressed in turns, medians with spread.

The machine is shared and noisy, so only what was timed in turns is compared, round by round. Tokenizing and sampling
are left out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor, nn

from explorer.layers.linear import device_of
from explorer.measure.intervals import paired_ratio
from explorer.measure.machine import processor, timed
from explorer.model.decode import Continuation, step_of
from explorer.model.writing import context_length, vocabulary
from explorer.values.performance import Speed
from explorer.values.reading import Reading

PROMPT_TOKENS = 128
PLACEMENT = 0.015  # copies of the same weights differ by so much, by where they lie in memory


@dataclass(eq=False)
class Stopwatch:
    """The samples of one model, in ms."""

    model: nn.Module
    kernel: str
    prefill: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)  # the median decode step of each lap
    prompt_tokens: int = PROMPT_TOKENS
    batch: int = 1
    own_step: bool = True  # False: transformers' forward for every token

    def lap(
        self, prompt: Tensor, decode_steps: int, keep: bool = True, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        """One prefill of prompt (texts, tokens) and `decode_steps` decode steps after it; left out where stopped."""
        text = Continuation(self.model, self.own_step)
        prefill = timed(lambda: text.feed(prompt))
        decode = [timed(lambda: text.feed(prompt[:, :1])) for _ in range(decode_steps) if not stopped()]
        if keep and len(decode) == decode_steps:
            self.batch, self.prompt_tokens = prompt.shape
            self.prefill.append(prefill)
            self.decode.extend(decode)
            self.rounds.append(median(decode))

    def speed(self, than: "Stopwatch | None" = None) -> Speed:
        """What was timed so far, and the ratio to what was timed in turns with it; at least one lap."""
        token = Reading.timing(self.decode)
        assert token.low is not None and token.high is not None
        rate = Reading(
            value=self.batch * 1e3 / token.value,
            unit="tokens/s",
            how="measured",
            low=self.batch * 1e3 / token.high,
            high=self.batch * 1e3 / token.low,
            n=token.n,
        )
        weight = next(self.model.parameters())
        return Speed(
            prefill_ms=Reading.timing(self.prefill),
            ms_per_token=token,
            tokens_per_second=rate,
            kernel=self.kernel,
            loop="own step" if self.own_step and step_of(self.model) else "transformers",
            prompt_tokens=self.prompt_tokens,
            threads=torch.get_num_threads(),
            batch=self.batch,
            dtype=str(weight.dtype).removeprefix("torch."),
            processor=processor(weight.device.type),
            prefill_ratio=paired_ratio(than.prefill, self.prefill, PLACEMENT) if than else None,
            decode_ratio=paired_ratio(than.rounds, self.rounds, PLACEMENT) if than else None,
        )


def time_in_turns(
    watches: Sequence[Stopwatch],
    *,
    rounds: int = 5,
    decode_steps: int = 8,
    prompt_tokens: int = PROMPT_TOKENS,
    batch: int = 1,
    quick: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[int]:
    """Fill the stopwatches round by round, in alternating order; yields the rounds done. `stopped` ends it within one,
    which then counts for nothing.

    `quick`: the models have just run, and are not warmed up. A prompt longer than the model's context is cut; what was
    timed stands in the Speed.
    """
    words = min(vocabulary(watch.model) for watch in watches)  # what all of them know
    device = device_of(watches[0].model)
    noise = torch.Generator().manual_seed(0)
    room = min(context_length(watch.model) for watch in watches)
    tokens = max(1, min(prompt_tokens, room - max(decode_steps, 2)))
    prompt = torch.randint(0, words, (batch, tokens), generator=noise).to(device)
    for watch in () if quick else watches:
        watch.lap(prompt, 1, keep=False)
    for done in range(rounds):
        for watch in watches if done % 2 == 0 else reversed(watches):
            watch.lap(prompt, decode_steps, stopped=stopped)
            if stopped():
                return
        yield done + 1
