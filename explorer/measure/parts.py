"""Where the time of one further token goes: the products of the decode step under a stop watch, and what is left."""

import copy
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from explorer.layers.linear import device_of
from explorer.layers.targets import Target
from explorer.model.decode import Continuation, Step, step_of
from explorer.values.performance import PARTS, Parts
from explorer.values.reading import Reading


class Clock:
    """ms spent in each part since it was cleared."""

    def __init__(self) -> None:
        self.ms: Counter[str] = Counter()
        self._wait = torch.cuda.synchronize if torch.cuda.is_available() else None

    def now(self) -> float:
        if self._wait:
            self._wait()
        return time.perf_counter() * 1e3

    def around(self, part: str, work: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """`work`, with its time counted."""

        def watched(*values: Any, **named: Any) -> Tensor:
            started = self.now()
            result = work(*values, **named)
            self.ms[part] += self.now() - started  # type: ignore[assignment]
            return result

        return watched


def where(
    model: nn.Module, found: Sequence[Target], *, prompt_tokens: int = 128, decode_steps: int = 24, batch: int = 1
) -> Parts:
    """Mean over the middle half of `decode_steps` tokens by their time, so that the parts add up to the total.

    `found` are the model's targets: the fallback on transformers' forward is watched by hooks on them, where
    attention's mixing counts as framework.
    """
    vocabulary = int(model.config.get_text_config().vocab_size)  # type: ignore[union-attr, operator]
    ids = torch.randint(0, vocabulary, (batch, prompt_tokens), generator=torch.Generator().manual_seed(0))
    ids = ids.to(device_of(model))
    clock, step = Clock(), step_of(model)
    text = Continuation(model, step=step and watched(step, clock))
    text.feed(ids)
    laps: list[Counter[str]] = []
    with hooked(model, [] if step else found, clock):
        for place in range(decode_steps + 1):
            clock.ms.clear()
            started = clock.now()
            text.feed(ids[:, :1])
            total = clock.now() - started
            if place:  # the first one makes room for keys and values
                spent = clock.ms.copy()
                spent["framework"] = total - sum(spent.values())  # type: ignore[assignment]
                laps.append(spent)
    return _parts(laps)


def watched(step: Step, clock: Clock) -> Step:
    """The same step, with every product's time counted."""
    twin = copy.copy(step)
    twin.embed, twin.head = clock.around("embedding", step.embed), clock.around("head", step.head)
    if step.compiled:
        twin.mix = clock.around("attention", step.mix)
    else:
        twin.attend = clock.around("attention", step.attend)
    twin.blocks = [
        block._replace(
            qkv=clock.around("attention", block.qkv),
            out=clock.around("attention", block.out),
            gate_up=clock.around("mlp", block.gate_up),
            act=clock.around("mlp", block.act),
            down=clock.around("mlp", block.down),
        )
        for block in step.blocks
    ]
    return twin


@contextmanager
def hooked(model: nn.Module, found: Sequence[Target], clock: Clock) -> Iterator[None]:
    """While it lasts, the time of each target's module is counted under its kind."""
    hooks = []
    for target in found:
        module, started = model.get_submodule(target.name), list[float]()

        def before(*_: Any, started: list[float] = started) -> None:
            started.append(clock.now())

        def after(*_: Any, started: list[float] = started, kind: str = target.kind) -> None:
            clock.ms[kind] += clock.now() - started.pop()  # type: ignore[assignment]

        hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _parts(laps: list[Counter[str]]) -> Parts:
    laps = sorted(laps, key=lambda lap: sum(lap.values()))
    quarter = len(laps) // 4
    middle = laps[quarter : len(laps) - quarter]

    def mean(of: Callable[[Counter[str]], float]) -> Reading:
        ends = Reading.timing([of(lap) for lap in laps])
        value = sum(map(of, middle)) / len(middle)
        return Reading(value=value, unit="ms", how="measured", low=ends.low, high=ends.high, n=len(laps))

    parts = {part: mean(lambda lap, part=part: float(lap[part])) for part in PARTS}  # type: ignore[misc]
    return Parts(parts=parts, total=mean(lambda lap: float(sum(lap.values()))))
