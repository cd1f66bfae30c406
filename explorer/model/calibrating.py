"""Calibration text through the model: what goes into each layer, how the blocks turn the hidden state, and how the loss
feels each layer's output. Plain sums over tokens; what follows from them is the business of `facts`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from explorer.layers.dense import WideAttention
from explorer.layers.linear import device_of
from explorer.layers.targets import Target, blocks_of, siblings, targets
from explorer.model.tokens import front

FIRST_TOKENS, ALL_TOKENS = 2048, 12288
BLOCK = 512  # columns of a Gram matrix that are summed up at once
LARGEST_SLOPE = 1e9  # beyond it, or where it is no number, a token counts for nothing
OUTPUT_TOKENS, LEAST_TOKENS, FELT_TOKENS = 3072, 512, 6144  # that also go backwards, which takes six times as long


class Gather:
    """Sums over calibration tokens, by hooks on one layer of each set of siblings and on the blocks, where the model
    has a plain list of them."""

    def __init__(self, model: nn.Module, group: Sequence[Target] = (), last: bool = True) -> None:
        """`group`: the layers of some blocks that follow each other, all by default; what comes behind them is run only
        by the `last` one, which sees how all blocks turn the hidden state."""
        self.model, self.tokens = model, 0
        first = {name: group[0] for group in siblings(model) for name in group}
        found = targets(model) if not group else group
        self.layers = [t for t in found if t.kind in ("attention", "mlp") and not t.tied_to]
        self.input_of = {t.name: first.get(t.name, t.name) for t in self.layers}
        self.sums: dict[str, Tensor] = {}
        self.met: dict[str, int] = {}  # tokens that came to each layer: to an expert, only those routed to it
        self.turns = Turns(model) if last else None
        self.end = None if last else 1 + max(t.block for t in self.layers)

    def bytes_of(self, target: Target) -> int:
        """What the sums of a layer's input take; 0 where they are a sibling's."""
        return 4 * target.shape[1] ** 2 if self.input_of[target.name] == target.name else 0

    @torch.no_grad()
    def run(self, ids: Tensor) -> None:
        names = dict.fromkeys(self.input_of.values())
        hooks = [self.model.get_submodule(name).register_forward_pre_hook(self._adder(name)) for name in names]
        try:
            with self.turns.watched() if self.turns else ends_before(self.model, self.end):
                body = getattr(self.model, "base_model", self.model)  # the head's product is not needed
                body(input_ids=ids.to(device_of(self.model)), use_cache=False)
        finally:
            for handle in hooks:
                handle.remove()
        self.tokens += ids.shape[1]

    def _adder(self, name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            x = inputs[0].reshape(-1, inputs[0].shape[-1])
            if not len(x):
                return
            self.met[name] = self.met.get(name, 0) + len(x)
            if f"{name}|gram" not in self.sums:
                self.sums[f"{name}|gram"] = torch.zeros(x.shape[1], x.shape[1], device=x.device)
            add_gram(self.sums[f"{name}|gram"], x)
            x = x.float()
            for word, value in (("mean", x.sum(0)), ("size", x.abs().sum(0))):
                key = f"{name}|{word}"
                self.sums[key] = self.sums[key].add_(value) if key in self.sums else value

        return hook

    def means(self, last: bool) -> Iterator[tuple[str, Tensor]]:
        """By name, each over the tokens that came there; `last` gives the sums themselves away."""
        for key in list(self.sums):
            name, _, word = key.rpartition("|")
            total = self.sums.pop(key) if last else self.sums[key]
            mean = total.div_(self.met[name]) if last else total / self.met[name]
            if word == "gram":
                mirrored(mean)
                yield f"{name}|power", mean.diagonal().clone()
                yield f"{name}|tokens", torch.tensor(self.met[name])
            yield key, mean
        if self.turns:
            yield from self.turns.means()


class Slopes:
    """E[g gᵀ] of the loss's gradient at each layer's output: as a sum, or as the gradients themselves where those are
    fewer. As many tokens as there is room for, at most `OUTPUT_TOKENS`."""

    def __init__(self, layers: Sequence[Target], room: int) -> None:
        self.tokens = OUTPUT_TOKENS
        while self.tokens > LEAST_TOKENS and sum(map(self._bytes_of, layers)) > room:
            self.tokens //= 2
        self._sums: dict[str, Tensor] = {}
        self._each: dict[str, list[Tensor]] = {}

    def _bytes_of(self, target: Target) -> int:
        rows, share = target.shape[0], target.active / target.experts if target.experts else 1.0
        return int(4 * rows**2 if self._summed(rows) else 2 * rows * self.tokens * share)

    def _summed(self, rows: int) -> bool:
        return 2 * rows <= self.tokens

    def see(self, name: str, _: Tensor, g: Tensor) -> None:
        """Add the gradients (tokens, rows) at a layer's output."""
        if not self._summed(g.shape[1]):
            self._each.setdefault(name, []).append(g.to(torch.bfloat16))
        elif name in self._sums:
            self._sums[name].addmm_(g.T, g, alpha=1 / self.tokens)
        else:
            self._sums[name] = g.T @ (g / self.tokens)

    def take(self, name: str) -> Tensor | None:
        """(rows, rows) float32, or fewer rows g with gᵀ g the same; given away; None where the loss felt nothing."""
        if name in self._each:
            g = torch.cat(self._each.pop(name)).float().mul_(self.tokens**-0.5)
            return g if len(g) < g.shape[1] else g.T @ g
        return self._sums.pop(name, None)


def in_groups(layers: Sequence[Target], bytes_of: Callable[[Target], int], room: int) -> list[list[Target]]:
    """Layers in groups of whole blocks, each of which fits into the room, or is one block."""
    groups: list[list[Target]] = []
    taken = 0
    for block in sorted({target.block for target in layers}):
        some = [target for target in layers if target.block == block]
        need = sum(map(bytes_of, some))
        if not groups or taken + need > room:
            groups.append([])
            taken = 0
        groups[-1] += some
        taken += need
    return groups


@contextmanager
def ends_before(model: nn.Module, block: int | None) -> Iterator[None]:
    """A forward inside ends without a result where this block would begin, if the model has it in a plain list."""

    def stop(*_: Any) -> None:
        raise Enough

    try:
        blocks = blocks_of(model)[1]
    except ValueError:
        blocks = nn.ModuleList()
    there = block is not None and block < len(blocks)
    hooks = [blocks[block].register_forward_pre_hook(stop)] if there and block is not None else []
    try:
        yield
    except Enough:
        pass
    finally:
        for hook in hooks:
            hook.remove()


class Enough(Exception):
    """All that was asked for has been seen."""


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


def add_gram(total: Tensor, x: Tensor) -> None:
    """Add x xᵀ of each row of (tokens, columns) to (columns, columns) float32, in the diagonal's blocks and right of
    them: `mirrored` fills the rest. Of bfloat16 the products are exact and the sums float32, also where a processor
    multiplies bfloat16 at several times the speed."""
    x32 = x.float()
    with products_of_bfloat16() if x.dtype == torch.bfloat16 else nullcontext():
        for at in range(0, len(total), BLOCK):
            total[at : at + BLOCK, at:].add_(x32[:, at : at + BLOCK].T @ x32[:, at:])


def mirrored(total: Tensor) -> Tensor:
    """The same tensor with what is left of the diagonal's blocks filled in."""
    for at in range(0, len(total), BLOCK):
        total[at + BLOCK :, at : at + BLOCK] = total[at : at + BLOCK, at + BLOCK :].T
    return total


@contextmanager
def products_of_bfloat16() -> Iterator[None]:
    """Products inside take factors as bfloat16 and give float32, where the processor can."""
    matmul = getattr(torch.backends.mkldnn, "matmul")  # noqa: B009 (typed nowhere)
    before, matmul.fp32_precision = matmul.fp32_precision, "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


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
                output.register_hook(partial(behind, name, inputs[input_of[name]]))  # type: ignore[no-untyped-call]

        return hook

    def behind(name: str, x: Tensor, slope: Tensor) -> None:
        g = slope.reshape(-1, slope.shape[-1]).float()
        see(name, x, g.where(g.abs().amax(1, keepdim=True) < LARGEST_SLOPE, 0))

    def start(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        return output.detach().requires_grad_(True).clone()

    def start_here(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if given:
            return (start(_, (), given[0]), *given[1:]), named
        return given, named | {"hidden_states": start(_, (), named["hidden_states"])}

    hooks = [model.get_submodule(name).register_forward_hook(layer_hook(name)) for name in input_of]
    block = block_before(model, input_of)
    if block is None:
        hooks.append(model.get_input_embeddings().register_forward_hook(start))  # type: ignore[operator, union-attr]
    else:
        hooks.append(block.register_forward_pre_hook(start_here, with_kwargs=True))
    try:
        with torch.inference_mode(False), torch.enable_grad():
            with WideAttention():
                logits = model(input_ids=ids.to(device_of(model)), use_cache=False).logits[0]
            logits.backward(_slope_of(logits.detach(), torch.Generator().manual_seed(seed)))
    finally:
        _let_go(model)
        for handle in hooks:
            handle.remove()


def block_before(model: nn.Module, names: Iterable[str]) -> nn.Module | None:
    """The first block with one of these layers, from which gradients are enough; None for the model's first, or where
    there is no plain list of blocks."""
    try:
        path, blocks = blocks_of(model)
    except ValueError:
        return None
    inside = [name.removeprefix(f"{path}.") for name in names if name.startswith(f"{path}.")]
    first = min((int(name.partition(".")[0]) for name in inside), default=0)
    return blocks[first] if first else None


def _let_go(model: nn.Module) -> None:
    """Of the graph: some families keep states of theirs as plain attributes (RecurrentGemma)."""
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.requires_grad:
                setattr(module, name, value.detach())


def _slope_of(logits: Tensor, noise: torch.Generator) -> Tensor:
    """Of the cross entropy with drawn labels: probabilities, less 1 at the label; some rows at a time."""
    slopes = torch.empty_like(logits)
    for rows, part in zip(torch.split(slopes, 64), torch.split(logits, 64), strict=True):
        slope = part.float().softmax(-1)
        labels = draw(slope, noise)
        rows.copy_(slope.scatter_add_(1, labels, torch.full_like(labels, -1, dtype=slope.dtype)))
    return slopes


def draw(probabilities: Tensor, noise: torch.Generator) -> Tensor:
    """A column for each row of (rows, columns) probabilities, (rows, 1); torch.multinomial takes ten times as long as
    this search in running sums."""
    sums = probabilities.cumsum(-1)
    drawn = torch.rand(len(sums), 1, generator=noise).to(sums.device) * sums[:, -1:]
    return torch.searchsorted(sums, drawn).clamp(max=sums.shape[1] - 1)


def first_windows(windows: Sequence[Tensor], tokens: int) -> list[Tensor]:
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
