"""Calibration text through the model: what goes into each layer, how the blocks turn the hidden state, and how the loss
feels each layer's output. Plain sums over tokens; what follows from them is the business of `facts`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from explorer.layers.dense import WideAttention, wide
from explorer.layers.linear import device_of
from explorer.layers.targets import Target, blocks_of, siblings, targets
from explorer.model.tokens import front

FIRST_TOKENS, ALL_TOKENS = 2048, 12288
LARGEST_SLOPE = 1e9  # beyond it, or where it is no number, a token counts for nothing
OUTPUT_TOKENS, FELT_TOKENS = 3072, 6144  # that also go backwards, which takes six times as long


class Gather:
    """Sums over calibration tokens, by hooks on one layer of each set of siblings and on the blocks, where the model
    has a plain list of them."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.tokens = model, 0
        first = {name: group[0] for group in siblings(model) for name in group}
        self.layers: list[Target] = [t for t in targets(model) if t.kind in ("attention", "mlp")]
        self.input_of = {t.name: first.get(t.name, t.name) for t in self.layers}
        self.sums: dict[str, Tensor] = {}
        self.met: dict[str, int] = {}  # tokens that came to each layer: to an expert, only those routed to it
        self.turns = Turns(model)

    @torch.no_grad()
    def run(self, ids: Tensor) -> None:
        def layer_hook(name: str) -> Callable[..., None]:
            def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
                x = inputs[0].reshape(-1, inputs[0].shape[-1])
                if not len(x):
                    return
                self.met[name] = self.met.get(name, 0) + len(x)
                gram = gram_of(x)
                x = x.float()
                for word, value in (("gram", gram), ("mean", x.sum(0)), ("size", x.abs().sum(0))):
                    key = f"{name}|{word}"
                    self.sums[key] = self.sums[key].add_(value) if key in self.sums else value

            return hook

        names = dict.fromkeys(self.input_of.values())
        hooks = [self.model.get_submodule(n).register_forward_pre_hook(layer_hook(n)) for n in names]
        try:
            with self.turns.watched():
                body = getattr(self.model, "base_model", self.model)  # the head's product is not needed
                body(input_ids=ids.to(device_of(self.model)), use_cache=False)
        finally:
            for handle in hooks:
                handle.remove()
        self.tokens += ids.shape[1]

    def means(self, last: bool) -> Iterator[tuple[str, Tensor]]:
        """By name, each over the tokens that came there; `last` gives the sums themselves away."""
        for key, total in self.sums.items():
            met = self.met[key.rpartition("|")[0]]
            yield key, total.div_(met) if last else total / met
        yield from self.turns.means()


class Turns:
    """How the blocks turn the hidden state: angles between what goes into each, and between before and behind each."""

    def __init__(self, model: nn.Module) -> None:
        try:
            self.blocks = list(blocks_of(model)[1])
        except ValueError:  # no plain list of them: then none is removed, and nobody asks
            self.blocks = []
        self.angles: Tensor | None = torch.zeros(len(self.blocks) + 1, len(self.blocks) + 1)
        self.cosines = torch.zeros(len(self.blocks))
        self.states = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Adds up what the blocks do meanwhile. A block that is gone through several times counts by its first time."""
        before, behind = dict[int, Tensor](), dict[int, Tensor]()

        def before_block(place: int) -> Callable[..., None]:
            def hook(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
                before.setdefault(place, _states(inputs[0] if inputs else named["hidden_states"]))

            return hook

        def after_block(place: int) -> Callable[..., None]:
            def hook(_: nn.Module, __: Any, output: Any) -> None:
                behind.setdefault(place, _states(output[0] if isinstance(output, tuple | list) else output))

            return hook

        hooks = []
        for place, block in enumerate(self.blocks):
            hooks.append(block.register_forward_pre_hook(before_block(place), with_kwargs=True))
            hooks.append(block.register_forward_hook(after_block(place)))
        try:
            yield
        finally:
            for handle in hooks:
                handle.remove()
        self._add(before, behind)

    def _add(self, before: dict[int, Tensor], behind: dict[int, Tensor]) -> None:
        if not before:
            return
        for place, state in before.items():
            if place in behind and behind[place].shape == state.shape:
                self.cosines[place] += float((state * behind[place]).sum())
        places = [*before.values(), behind[max(behind)]]
        self.states += len(places[0])
        if self.angles is None or len(places) != len(self.angles) or len({p.shape for p in places}) > 1:
            self.angles = None  # states of several shapes cannot be compared with one another
            return
        unit = torch.stack(places, dim=1)  # (states, places, width)
        self.angles += (unit @ unit.transpose(1, 2)).clamp(-1, 1).arccos().sum(0).cpu() / torch.pi

    def means(self) -> Iterator[tuple[str, Tensor]]:
        if self.states:
            yield "blocks|influence", 1 - self.cosines / self.states
        if self.states and self.angles is not None:
            yield "blocks|angles", self.angles / self.states


def _states(hidden: Tensor) -> Tensor:
    """Hidden states one below the other, of length one; a copy, since blocks may go on in place."""
    return nn.functional.normalize(hidden.detach().reshape(-1, hidden.shape[-1]).float(), dim=-1).clone()


def gram_of(x: Tensor) -> Tensor:
    """Σ x xᵀ of (tokens, columns) → (columns, columns) float32. In bfloat16 it is rounded once a window, which takes a
    quarter of the time; the few tokens that outshout all others (attention sinks) are summed up in float32."""
    if x.dtype == torch.float32:
        return x.T @ x
    power = x.float().square().sum(1)
    loud = power > 16 * power.median()
    quiet, rest = wide(x[~loud]), x[loud].float()
    return (quiet.T @ quiet).float().addmm_(rest.T, rest)


def felt(
    model: nn.Module, ids: Tensor, input_of: Mapping[str, str], seed: int, see: Callable[[str, Tensor, Tensor], None]
) -> None:
    """Call `see` for each layer with its name, its input (tokens, columns) and the loss's gradient at its output
    (tokens, rows), float32, on the way back through the model: all gradients together would take too much memory.

    Labels are drawn from the model's own predictions: then E[g gᵀ] is the Fisher matrix, the curvature of the KL
    divergence from the original (Martens, arXiv 1412.1193, §5).
    """
    inputs: dict[str, Tensor] = {}

    def layer_hook(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            if name == input_of[name]:
                inputs[name] = given[0].detach().reshape(-1, given[0].shape[-1])
            if output.requires_grad and output.numel():  # a hook of the tensor: a module's forbids changes in place
                output.register_hook(partial(behind, name, inputs[input_of[name]]))

        return hook

    def behind(name: str, x: Tensor, slope: Tensor) -> None:
        g = slope.reshape(-1, slope.shape[-1]).float()
        see(name, x, g.where(g.abs().amax(1, keepdim=True) < LARGEST_SLOPE, 0))

    def start(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        return output.detach().requires_grad_(True).clone()

    hooks = [model.get_submodule(name).register_forward_hook(layer_hook(name)) for name in input_of]
    hooks.append(model.get_input_embeddings().register_forward_hook(start))  # type: ignore[operator, union-attr]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            with WideAttention():
                logits = model(input_ids=ids.to(device_of(model)), use_cache=False).logits[0]
            slope = logits.detach().float().softmax(-1)  # of the cross entropy: probabilities, less 1 at the label
            noise = torch.Generator().manual_seed(seed)
            labels = draw(slope, noise)
            slope.scatter_add_(1, labels, torch.full_like(labels, -1, dtype=slope.dtype))
            logits.backward(slope.to(logits.dtype))
    finally:
        _let_go(model)
        for handle in hooks:
            handle.remove()


def _let_go(model: nn.Module) -> None:
    """Of the graph: some families keep states of theirs as plain attributes (RecurrentGemma)."""
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.requires_grad:
                setattr(module, name, value.detach())


def draw(probabilities: Tensor, noise: torch.Generator) -> Tensor:
    """A column for each row of (rows, columns) probabilities, (rows, 1); torch.multinomial takes ten times as long as
    this search in running sums."""
    sums = probabilities.cumsum(-1)
    drawn = torch.rand(len(sums), 1, generator=noise).to(sums.device) * sums[:, -1:]
    return torch.searchsorted(sums, drawn).clamp(max=sums.shape[1] - 1)


def first(windows: Sequence[Tensor], tokens: int) -> list[Tensor]:
    """As many windows as hold `tokens` tokens, at least one."""
    kept = [window for i, window in enumerate(windows) if sum(w.shape[1] for w in windows[:i]) < tokens]
    return kept or list(windows[:1])


def windows_of(
    tokenizer: Any, texts: Mapping[str, Sequence[str]], tokens: int = ALL_TOKENS, length: int = 512
) -> list[Tensor]:
    """Texts by kind → windows of ids (1, ≤ length), `tokens` in all; mixed, so that any first part is a fair sample."""
    start = front(tokenizer, always=True)
    columns: list[list[Tensor]] = []
    for group in texts.values():
        ids = [token for text in group for token in tokenizer(f"{text}\n\n", add_special_tokens=False)["input_ids"]]
        room = length - len(start)
        columns.append([torch.tensor([start + ids[at : at + room]]) for at in range(0, len(ids), room)])
    places = [((i + 0.5) / len(column), window) for column in columns for i, window in enumerate(column)]
    turns = [window for _, window in sorted(places, key=lambda pair: pair[0])]
    kept: list[Tensor] = []
    for window in turns:
        if sum(w.shape[1] for w in kept) < tokens and window.shape[1] > 1:
            kept.append(window)
    return kept
