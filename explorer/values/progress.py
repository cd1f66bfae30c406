"""How far work has got: the share done of steps within steps, sentences on what it is at, and a student as a value,
which the page draws, the command line prints and the disk keeps."""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from explorer.values.reading import Reading

R = TypeVar("R")
Telling: TypeAlias = Generator[str, None, R]  # says what it is at, often, and returns what it found; may be stopped


def scaled(steps: Generator[float, None, R], start: float, part: float) -> Generator[float, None, R]:
    """The same steps, whose share done is a part of something larger."""
    while True:
        try:
            yield start + part * next(steps)
        except StopIteration as end:
            result: R = end.value
            return result


def told(work: Telling[R], say: Callable[[str], None]) -> R:
    """What `work` finds; each sentence is said once."""
    last = ""
    while True:
        try:
            sentence = next(work)
        except StopIteration as end:
            found: R = end.value
            return found
        if sentence != last:
            say(last := sentence)


@dataclass(frozen=True, kw_only=True)
class HealStep:
    """A student after so many steps of training (0: before the first): its KL from the original on held-out windows as
    they were last looked at, the step that was best there, the loss of this step's windows (KL, or of the next token),
    tokens learned from, and seconds gone and left. `joules` where the machine tells its energy."""

    step: int
    steps: int
    kl: Reading
    best_step: int
    training_loss: Reading
    tokens: Reading
    seconds: Reading
    seconds_left: Reading
    joules: Reading | None = None

    @classmethod
    def of(
        cls,
        *,
        step: int,
        steps: int,
        kl: float,
        best_step: int,
        training_loss: float | None,
        tokens: int,
        held_out: int,
        seconds: float,
        joules: float | None = None,
    ) -> "HealStep":
        """From plain numbers, as `to_dict` gives them; `tokens` and `held_out` are predicted tokens."""
        loss = math.nan if training_loss is None else training_loss
        left = seconds / step * (steps - step) if step else math.nan
        return cls(
            step=step,
            steps=steps,
            kl=Reading(value=kl, unit="nats", how="measured", n=held_out),
            best_step=best_step,
            training_loss=Reading(value=loss, unit="nats", how="measured", n=tokens // max(step, 1)),
            tokens=Reading(value=tokens, unit="tokens", how="measured"),
            seconds=Reading(value=seconds, unit="s", how="measured"),
            seconds_left=Reading(value=left, unit="s", how="estimated"),
            joules=None if joules is None else Reading(value=joules, unit="J", how="measured"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers by name; what is not known is None."""
        return {
            "step": self.step,
            "steps": self.steps,
            "kl": self.kl.value,
            "best_step": self.best_step,
            "training_loss": None if math.isnan(self.training_loss.value) else self.training_loss.value,
            "tokens": int(self.tokens.value),
            "held_out": self.kl.n,
            "seconds": self.seconds.value,
            "joules": self.joules.value if self.joules else None,
        }
