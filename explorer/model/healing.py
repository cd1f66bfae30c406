"""heal(model, lessons, steps) → the same model, better: it learns to predict what the original predicts, and to get
there by the same hidden states (see `teach`).

What is trained is what the recipe stored anew, in the form in which it is stored: kept weights, factors, the scales of
codes; and every norm's gains and biases (see `student`). The model that comes out holds what was learned as a file
holds it, rounded, and the held-out KL is that of the rounded one.
"""

import itertools
import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from explorer.layers.linear import CompressedLinear
from explorer.model.memory import check_memory
from explorer.model.student import Student
from explorer.model.teach import Lessons
from explorer.values.progress import HealStep

WINDOWS = 1  # in a step
WARM_UP, STEADY = 10, 30  # steps of a rising rate; steps after which it falls with the root of their number
EVERY = 30  # steps between looks at the held-out windows
CLIP = 1.0
AVERAGE = 5.0  # the running average reaches back over a fifth of the steps so far
# for each weight: its value, slope, both moments of Adam and average in float32, and what layers multiply by
BYTES = 28


class _Trainer:
    """Steps of AdamW on a student, and the best of them by what is held out."""

    def __init__(self, student: Student, lessons: Lessons, steps: int, rate: float, seed: int, plain: bool) -> None:
        self.student, self.lessons, self.steps = student, lessons, steps
        self.taught = lessons.next_tokens() if plain else lessons
        groups = [{"params": [each.value.requires_grad_(True)], "rate": rate * each.rate} for each in student.trained]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        self.average = [each.value.detach().clone() for each in student.trained]
        self.order = self._windows(torch.Generator().manual_seed(seed))
        self.best: list[Tensor] = []
        self.kl = self.best_kl = math.inf
        self.best_step = 0

    def _windows(self, order: torch.Generator) -> Iterator[int]:
        while True:
            for i in torch.randperm(len(self.lessons.learned), generator=order).tolist():
                yield self.lessons.learned[i]

    def step(self, step: int) -> float:
        """One step, from 1; KL (or the next-token loss) of its windows in nats."""
        pace = min(step / WARM_UP, 1.0, (STEADY / step) ** 0.5)
        for group in self.optimizer.param_groups:
            group["lr"] = pace * group["rate"]
        windows = list(itertools.islice(self.order, WINDOWS))
        with torch.enable_grad():
            kl, loss = self.student.loss(self.student.given(lambda each: each.value), self.taught, windows)
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([each.value for each in self.student.trained], CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            values = [each.value for each in self.student.trained]
            torch._foreach_lerp_(self.average, values, AVERAGE / (step + AVERAGE))
        return float(kl.detach())

    @torch.no_grad()
    def look(self, step: int) -> None:
        """KL on what is held out, of the model as a file would hold it now; kept if it is the best."""
        pairs = zip(self.student.trained, self.average, strict=True)
        stored = {id(each): each.stored(value) for each, value in pairs}
        given = self.student.given(lambda each: each.again(stored[id(each)]))
        windows = self.lessons.held_out
        parts = [windows[at : at + 2] for at in range(0, len(windows), 2)]
        total = sum(float(self.student.loss(given, self.lessons, part)[0]) * len(part) for part in parts)
        self.kl = total / len(windows)
        if self.kl < self.best_kl:
            self.best, self.best_kl, self.best_step = list(stored.values()), self.kl, step

    def put_best(self) -> None:
        for each, stored in zip(self.student.trained, self.best, strict=True):
            each.put(stored.clone())


def heal(
    unsettled: nn.Module,
    lessons: Lessons,
    steps: int,
    *,
    rate: float = 1.0,
    seed: int = 0,
    everything: bool = False,
    inside: bool = True,
    plain: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> Generator[HealStep, None, nn.Module]:
    """Train for so many steps of `WINDOWS` windows; yields before the first and after each, and returns the best model
    by held-out KL, unsettled. When `stopped` says so the best so far is returned; the given model is never touched.

    AdamW, its rate rising, steady, then falling; what is judged and kept is the running average of the steps. Neither
    depends on how many steps are to come, so a stop leaves what a recipe of so many steps is. `rate` multiplies
    `trainable.RATES`, `seed` decides the order of the windows.
    everything: also train plain matrices inside the blocks, where blocks, channels or heads were taken out. inside:
    the hidden states mean what the teacher's mean, place by place, so they are learned from too. plain: the next-token
    loss on the same text in place of all that the teacher says, to compare with. ValueError where there is nothing to
    train, ModelRejected where memory is short.
    """
    layers = [
        m for m in unsettled.modules() if isinstance(m, CompressedLinear) or everything and isinstance(m, nn.Linear)
    ]
    check_memory(BYTES * sum(layer.in_features * layer.out_features for layer in layers))
    student = Student(unsettled, everything)
    if not student.trained:
        raise ValueError("Healing has nothing to train in this model.")
    trainer = _Trainer(student, lessons if inside else replace(lessons, hidden=()), steps, rate, seed, plain)
    trainer.look(0)
    yield _record(trainer, 0, math.nan, 0.0)
    started = time.perf_counter()
    step, last = 0, stopped()
    while not last:
        step += 1
        loss = trainer.step(step)
        if not math.isfinite(loss):
            raise ValueError(f"Healing broke at step {step}: its loss is not a number. A lower rate may help.")
        last = step == steps or stopped()
        if step % EVERY == 0 or last:
            trainer.look(step)
        yield _record(trainer, step, loss, time.perf_counter() - started)
    trainer.put_best()
    return student.healed


def _record(trainer: _Trainer, step: int, loss: float, seconds: float) -> HealStep:
    predicted = trainer.lessons.ids.shape[1] - 1
    return HealStep.of(
        step=step,
        steps=trainer.steps,
        kl=trainer.kl,
        best_step=trainer.best_step,
        training_loss=loss,
        tokens=WINDOWS * predicted * step,
        held_out=predicted * len(trainer.lessons.held_out),
        seconds=seconds,
    )
