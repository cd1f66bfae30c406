"""What tests of methods share: the loss by a Gram matrix, and what steps come to."""

from collections.abc import Generator
from typing import TypeVar

from torch import Tensor

R = TypeVar("R")


def lost(weight: Tensor, approximate: Tensor, gram: Tensor) -> float:
    difference = weight - approximate
    return float(((difference @ gram) * difference).sum())


def run(steps: Generator[float, None, R]) -> R:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
