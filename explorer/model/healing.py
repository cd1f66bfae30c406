"""heal(model, lessons, steps) → the same model, better: it learns to predict what the original predicts, and to get
there by the same hidden states (see `teach`).

What is trained is what the recipe stored anew, in the form in which it is stored: kept weights, factors, the scales of
codes; and every norm's gains and biases. Masks and codes stay what they are, and no byte is added. The model that comes
out holds what was learned as a file holds it, rounded, and the held-out KL is that of the rounded one.
"""

import copy
import itertools
import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from explorer.layers.linear import CompressedEmbedding, CompressedLinear
from explorer.layers.storage import BitsAndBytes, Dense, Quantized, Sparse, Stored
from explorer.layers.targets import targets
from explorer.methods import bits, distill
from explorer.methods.quantize import groups_of
from explorer.model import teach
from explorer.model.memory import check_memory
from explorer.model.teach import Lessons, trainable_dtype
from explorer.native import encoding
from explorer.values.progress import HealStep

WINDOWS = 1  # in a step
STATES = 10.0  # what hidden states count, beside the KL
RATES = {"values": 1e-3, "factors": 4e-3, "scales": 4e-3, "vectors": 4e-3}  # of Adam, relative to what is trained
WARM_UP, STEADY = 10, 30  # steps of a rising rate; steps after which it falls with the root of their number
EVERY = 30  # steps between looks at the held-out windows
CLIP = 1.0
AVERAGE = 5.0  # the running average reaches back over a fifth of the steps so far
# for each weight: its value, slope, both moments of Adam and average in float32, and what layers multiply by
BYTES = 28


@dataclass(kw_only=True, eq=False)
class _Leaf:
    """One tensor that is trained: its value in float32, what a layer multiplies by that follows from the value, the
    tensor that a file holds, the value again, and where the file's tensor goes."""

    value: Tensor
    rate: float
    weight: Callable[[Tensor], Tensor]
    stored: Callable[[Tensor], Tensor]
    again: Callable[[Tensor], Tensor]
    put: Callable[[Tensor], None]


Weights = dict[str, Callable[[Callable[[_Leaf], Tensor]], Tensor]]  # parameter → how it follows from leaves


class Student:
    """A copy of an unsettled model whose layers get their weights from leaves; the model itself is not touched."""

    def __init__(self, unsettled: nn.Module, everything: bool) -> None:
        """`everything`: also train plain matrices inside the blocks, where blocks or channels were taken out."""
        self.dtype, self.device = trainable_dtype(unsettled), next(unsettled.parameters()).device
        self.healed = _sharing(unsettled)
        self.leaves: list[_Leaf] = []
        self.weights: Weights = {}
        net, inside = _sharing(unsettled), {t.name for t in targets(unsettled) if t.kind in ("attention", "mlp")}
        head = self.healed.get_output_embeddings()  # type: ignore[operator]
        for name, module in list(self.healed.named_modules()):
            if isinstance(module, CompressedLinear):
                plain = nn.Linear(module.in_features, module.out_features, module.bias is not None, device="meta")
                net.set_submodule(name, plain)
                self.weights[f"{name}.weight"] = self._assembled(module, frozen=module is head)
                if module.bias is not None:
                    self._vector(f"{name}.bias", module, "bias", module.bias)
            elif isinstance(module, CompressedEmbedding):
                net.get_submodule(name).stored = Dense(module.stored.dense().to(self.dtype))  # type: ignore[assignment]
            elif isinstance(module, nn.Linear) and everything and name in inside:
                self._add(f"{name}.weight", self._plain(module, "weight", module.weight, "values"))
            for leaf, tensor in module.named_parameters(recurse=False):
                if tensor.dim() == 1:
                    self._vector(f"{name}.{leaf}", module, leaf, tensor)
        self.net = copy.deepcopy(net).to(self.dtype).requires_grad_(False)

    def _add(self, name: str, leaf: _Leaf) -> None:
        self.leaves.append(leaf)
        self.weights[name] = lambda value: leaf.weight(value(leaf))

    def _vector(self, name: str, module: nn.Module, attribute: str, tensor: Tensor) -> None:
        self._add(name, self._plain(module, attribute, tensor, "vectors"))

    def _plain(self, module: nn.Module, attribute: str, tensor: Tensor, kind: str) -> _Leaf:
        parameter = isinstance(tensor, nn.Parameter)

        def put(new: Tensor) -> None:
            setattr(module, attribute, nn.Parameter(new, requires_grad=False) if parameter else new)

        return _Leaf(
            value=tensor.detach().float().clone(),
            rate=RATES[kind] * _size(tensor),
            weight=lambda value: value.to(self.dtype),
            stored=lambda value: value.to(tensor.dtype),
            again=lambda new: new.float(),
            put=put,
        )

    def _assembled(self, layer: CompressedLinear, frozen: bool) -> Callable[[Callable[[_Leaf], Tensor]], Tensor]:
        branches: list[list[Stored]] = [list(factors) for factors in layer.branches]  # type: ignore[call-overload]
        parts: list[list[_Leaf | Tensor]] = []
        for factors in branches:
            kind = "values" if len(factors) == 1 else "factors"
            parts.append([part.dense().to(self.dtype) if frozen else self._leaf(part, kind) for part in factors])
        self.leaves += [part for factors in parts for part in factors if isinstance(part, _Leaf)]
        divisor = None if layer.input_scale is None else layer.input_scale.to(self.dtype)

        def weight(value: Callable[[_Leaf], Tensor]) -> Tensor:
            total: Tensor | None = None
            for factors in parts:
                tensors = [part if isinstance(part, Tensor) else part.weight(value(part)) for part in factors]
                product = tensors[0] if len(tensors) == 1 else tensors[0] @ tensors[1]
                total = product if total is None else total + product
            assert total is not None
            return total if divisor is None else total / divisor

        return weight

    def _leaf(self, stored: Stored, kind: str) -> _Leaf | Tensor:
        """What can be trained of a matrix: its values, or the scales of its codes."""
        inner = stored.kept if isinstance(stored, Sparse) else stored
        mask = bits.unpack_mask(stored.bitmap, stored.shape[1]) if isinstance(stored, Sparse) else None
        if isinstance(inner, Dense):
            return self._values(stored, inner, mask, kind)
        if isinstance(inner, Quantized):
            return self._scales(stored, inner, "scale", inner.scale, mask, inner.group)
        if isinstance(inner, BitsAndBytes) and not inner.spec.double:
            return self._scales(stored, inner, "absmax", inner.scales(), None, 64 if inner.spec.bits == 4 else 0)
        return stored.dense().to(self.dtype)

    def _values(self, stored: Stored, inner: Dense, mask: Tensor | None, kind: str) -> _Leaf:

        def put(new: Tensor) -> None:
            inner.weight = new
            if isinstance(stored, Sparse):
                stored.fresh = None

        return _Leaf(
            value=inner.weight.detach().float().clone(),
            rate=RATES[kind] * _size(inner.weight),
            weight=lambda value: value.to(self.dtype) if mask is None else _Spread.apply(value.to(self.dtype), mask),  # type: ignore[no-untyped-call]
            stored=lambda value: value.to(inner.dtype),
            again=lambda new: new.float(),
            put=put,
        )

    def _scales(
        self, stored: Stored, inner: Stored, name: str, scale: Tensor, mask: Tensor | None, group: int
    ) -> _Leaf:
        decoded, before = stored.dense().to(self.dtype), scale.float()
        size = groups_of(inner.shape[1], group)[1]

        def keep(value: Tensor) -> Tensor:
            new = before * (1 + value)
            return (new.to(inner.dtype) if scale.dtype == torch.float16 else new).to(scale.dtype)

        return _Leaf(
            value=torch.zeros_like(before),
            rate=RATES["scales"],
            weight=lambda value: _Scaled.apply(value, decoded, mask, inner.shape[1], size),  # type: ignore[no-untyped-call]
            stored=keep,
            again=lambda new: torch.where(before == 0, 0.0, new.float() / before - 1),
            put=lambda new: setattr(inner, name, new),
        )

    def given(self, value: Callable[[_Leaf], Tensor]) -> dict[str, Tensor]:
        """What the layers multiply by, by name, for these values of the leaves."""
        return {name: weight(value) for name, weight in self.weights.items()}

    def loss(self, given: dict[str, Tensor], lessons: Lessons, windows: list[int]) -> tuple[Tensor, Tensor]:
        """Mean KL in nats from the lessons' predictions on these windows to the model's; and the same with what its
        hidden states are apart from the lessons', where they have any."""
        inputs: dict[str, Any] = {"input_ids": lessons.ids[windows].long().to(self.device), "use_cache": False}
        with teach.hidden_states(self.net) as hidden:
            logits: Tensor = functional_call(self.net, given, kwargs=inputs).logits[:, :-1]
        top, log_p = (part[windows].flatten(0, 1).to(self.device) for part in (lessons.top, lessons.log_p))
        kl = distill.divergence(logits.reshape(-1, logits.shape[-1]), top, log_p)
        pairs = zip(hidden, lessons.hidden, strict=False)  # no pairs where the lessons have none
        apart = [distill.apart(mine[:, :-1], theirs[windows].to(self.device)) for mine, theirs in pairs]
        return kl, kl + STATES * torch.stack(apart).mean() if apart else kl


class _Spread(torch.autograd.Function):
    """The kept values of a matrix → the matrix, zero where the mask is."""

    @staticmethod
    def forward(ctx: Any, kept: Tensor, mask: Tensor) -> Tensor:
        ctx.mask, ctx.shape = mask, kept.shape
        return encoding.spread(kept, mask)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return encoding.select(slope, ctx.mask, ctx.shape), None


class _Scaled(torch.autograd.Function):
    """decoded · (1 + gain of its group); the groups lie over the columns, or over what a mask kept of them."""

    @staticmethod
    def forward(ctx: Any, gain: Tensor, decoded: Tensor, mask: Tensor | None, columns: int, size: int) -> Tensor:
        ctx.save_for_backward(decoded)
        ctx.mask, ctx.shape, ctx.columns, ctx.size = mask, gain.shape, columns, size
        wide = (1 + gain).to(decoded.dtype).repeat_interleave(size, dim=1)[:, :columns]
        return decoded * (wide if mask is None else encoding.spread(wide, mask))

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        (decoded,) = ctx.saved_tensors
        felt = (slope * decoded).float()
        rows, groups = ctx.shape
        if ctx.mask is not None:
            felt = encoding.select(felt, ctx.mask, (rows, ctx.columns))
        felt = nn.functional.pad(felt, (0, groups * ctx.size - ctx.columns))
        return felt.view(rows, groups, ctx.size).sum(2), None, None, None, None


def _sharing(model: nn.Module) -> nn.Module:
    """The modules anew, every tensor shared."""
    return copy.deepcopy(model, {id(t): t for t in chain(model.parameters(), model.buffers())})


def _size(tensor: Tensor) -> float:
    """Root mean square."""
    return max(float(tensor.detach().float().square().mean().sqrt()), 1e-8)


class _Trainer:
    """Steps of AdamW on a student's leaves, and the best of them by what is held out."""

    def __init__(self, student: Student, lessons: Lessons, steps: int, rate: float, seed: int, plain: bool) -> None:
        self.student, self.lessons, self.steps = student, lessons, steps
        self.taught = lessons.next_tokens() if plain else lessons
        groups = [{"params": [leaf.value.requires_grad_(True)], "rate": rate * leaf.rate} for leaf in student.leaves]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        self.average = [leaf.value.detach().clone() for leaf in student.leaves]
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
            kl, loss = self.student.loss(self.student.given(lambda leaf: leaf.value), self.taught, windows)
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([leaf.value for leaf in self.student.leaves], CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            values = [leaf.value for leaf in self.student.leaves]
            torch._foreach_lerp_(self.average, values, AVERAGE / (step + AVERAGE))
        return float(kl.detach())

    @torch.no_grad()
    def look(self, step: int) -> None:
        """KL on what is held out, of the model as a file would hold it now; kept if it is the best."""
        pairs = zip(self.student.leaves, self.average, strict=True)
        stored = {id(leaf): leaf.stored(value) for leaf, value in pairs}
        given = self.student.given(lambda leaf: leaf.again(stored[id(leaf)]))
        windows = self.lessons.held_out
        parts = [windows[at : at + 2] for at in range(0, len(windows), 2)]
        total = sum(float(self.student.loss(given, self.lessons, part)[0]) * len(part) for part in parts)
        self.kl = total / len(windows)
        if self.kl < self.best_kl:
            self.best, self.best_kl, self.best_step = list(stored.values()), self.kl, step

    def put_best(self) -> None:
        for leaf, stored in zip(self.student.leaves, self.best, strict=True):
            leaf.put(stored.clone())


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
    `RATES`, `seed` decides the order of the windows.
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
    if not student.leaves:
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
