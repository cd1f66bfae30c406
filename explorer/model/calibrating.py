"""Calibration text through the model: what goes into each layer, how the blocks turn the hidden state, and how the loss
feels each layer's output. Plain sums over tokens; what follows from them is the business of `facts`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from explorer.layers.dense import WideAttention, wide
from explorer.layers.targets import Target, blocks_of, siblings, targets
from explorer.model.tokens import front

FIRST_TOKENS, ALL_TOKENS = 2048, 12288
OUTPUT_TOKENS, FELT_TOKENS = 3072, 6144  # that also go backwards, which takes six times as long


class Gather:
    """Sums over calibration tokens, by hooks on one layer of each set of siblings and on the blocks."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.tokens = model, 0
        first = {name: group[0] for group in siblings(model) for name in group}
        self.layers: list[Target] = [t for t in targets(model) if t.kind in ("attention", "mlp")]
        self.input_of = {t.name: first.get(t.name, t.name) for t in self.layers}
        self.sums: dict[str, Tensor] = {}
        self.blocks = blocks_of(model)[1]
        self.angles = torch.zeros(len(self.blocks) + 1, len(self.blocks) + 1)
        self.cosines = torch.zeros(len(self.blocks))

    @torch.no_grad()
    def run(self, ids: Tensor) -> None:
        hidden: list[Tensor] = []

        def layer_hook(name: str) -> Callable[..., None]:
            def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
                x = inputs[0].reshape(-1, inputs[0].shape[-1])
                gram = gram_of(x)
                x = x.float()
                for word, value in (("gram", gram), ("mean", x.sum(0)), ("size", x.abs().sum(0))):
                    key = f"{name}|{word}"
                    self.sums[key] = self.sums[key].add_(value) if key in self.sums else value

            return hook

        def before_block(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            hidden.append((inputs[0] if inputs else named["hidden_states"])[0].float())

        def after_block(_: nn.Module, __: Any, output: Any) -> None:
            hidden.append((output[0] if isinstance(output, tuple) else output).reshape(-1, hidden[0].shape[-1]).float())

        names = dict.fromkeys(self.input_of.values())
        hooks = [self.model.get_submodule(n).register_forward_pre_hook(layer_hook(n)) for n in names]
        hooks += [block.register_forward_pre_hook(before_block, with_kwargs=True) for block in self.blocks]
        hooks += [self.blocks[-1].register_forward_hook(after_block)]
        try:
            body = getattr(self.model, "base_model", self.model)  # the head's product is not needed
            body(input_ids=ids.to(next(self.model.parameters()).device), use_cache=False)
        finally:
            for handle in hooks:
                handle.remove()
        unit = nn.functional.normalize(torch.stack(hidden, dim=1), dim=-1)  # (tokens, places, width)
        cosines = (unit @ unit.transpose(1, 2)).clamp(-1, 1).cpu()
        self.angles += cosines.arccos().sum(0) / torch.pi
        self.cosines += cosines.sum(0).diagonal(1)
        self.tokens += ids.shape[1]

    def means(self, last: bool) -> Iterator[tuple[str, Tensor]]:
        """By name; `last` gives the sums themselves away."""
        for name, total in self.sums.items():
            yield name, total.div_(self.tokens) if last else total / self.tokens
        yield "blocks|angles", self.angles / self.tokens
        yield "blocks|influence", 1 - self.cosines / self.tokens


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

    def forward_hook(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            inputs[name] = given[0].detach().reshape(-1, given[0].shape[-1])

        return hook

    def backward_hook(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, gradients: tuple[Tensor, ...]) -> None:
            g = gradients[0].reshape(-1, gradients[0].shape[-1]).float()
            see(name, inputs[input_of[name]], g)

        return hook

    hooks = [model.get_submodule(n).register_forward_pre_hook(forward_hook(n)) for n in set(input_of.values())]
    hooks += [model.get_submodule(n).register_full_backward_hook(backward_hook(n)) for n in input_of]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
            start = embedding(ids.to(next(model.parameters()).device)).detach().requires_grad_(True)
            with WideAttention():
                logits = model(inputs_embeds=start, use_cache=False).logits[0]
            slope = logits.detach().float().softmax(-1)  # of the cross entropy: probabilities, less 1 at the label
            noise = torch.Generator().manual_seed(seed)
            labels = draw(slope, noise)
            slope.scatter_add_(1, labels, torch.full_like(labels, -1, dtype=slope.dtype))
            logits.backward(slope.to(logits.dtype))
    finally:
        for handle in hooks:
            handle.remove()


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
