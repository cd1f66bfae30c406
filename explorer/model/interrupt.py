"""Passes over a text end within one block once nobody waits for them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from torch import nn

from explorer.layers.targets import blocks_of


class Interrupted(Exception):
    """Nobody waits for what was being worked out."""


@contextmanager
def interruptible(stopped: Callable[[], bool], *models: nn.Module) -> Iterator[None]:
    """Inside, a pass of these models raises Interrupted at its next block once `stopped` says so."""

    def look(*_: object) -> None:
        if stopped():
            raise Interrupted

    hooks = []
    for model in models:
        with suppress(ValueError):  # a model without a list of blocks reads to its end
            hooks += [block.register_forward_pre_hook(look) for block in blocks_of(model)[1]]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
