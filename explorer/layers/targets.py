"""Which matrices of a causal language model are compressed, and of what kind they are. Knows names and shapes only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["attention", "mlp", "embedding", "head"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """One matrix: module name, kind, (rows, columns), and for a tied head the name of the embedding it shares."""

    name: str
    kind: Kind
    shape: tuple[int, int]
    tied_to: str = ""


def targets(model: nn.Module) -> list[Target]:
    """All linear layers inside the repeated blocks, the token embedding and the output head, in the model's order."""
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    head = model.get_output_embeddings()  # type: ignore[operator]
    found, embedding_name = [], ""
    if type(embedding) is not nn.Embedding and not hasattr(embedding, "embed_scale"):
        embedding = head = None  # it does more than look rows up: left alone, and so is a head that may share it
    for name, module in model.named_modules():
        if module is embedding and isinstance(module, nn.Embedding):
            embedding_name = name
            found.append(Target(name=name, kind="embedding", shape=_shape(module.weight)))
        elif module is head and isinstance(module, nn.Linear):
            tied = isinstance(embedding, nn.Embedding) and module.weight is embedding.weight
            found.append(
                Target(
                    name=name,
                    kind="head",
                    shape=_shape(module.weight),
                    tied_to=embedding_name if tied else "",
                )
            )
        elif isinstance(module, nn.Linear) and any(part.isdigit() for part in name.split(".")):
            kind: Kind = "attention" if "attn" in name or "attention" in name else "mlp"
            found.append(Target(name=name, kind=kind, shape=_shape(module.weight)))
    return found


@torch.no_grad()
def siblings(model: nn.Module) -> list[list[str]]:
    """Names of linear layers that get the very same input (query, key, value; gate, up), found by one short pass."""
    asked: list[tuple[int, str]] = []
    kept: list[Tensor] = []  # so that no two inputs have one address

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            asked.append((id(inputs[0]), name))
            kept.append(inputs[0])

        return hook

    layers = [(t.name, model.get_submodule(t.name)) for t in targets(model) if t.kind in ("attention", "mlp")]
    hooks = [module.register_forward_pre_hook(note(name)) for name, module in layers]
    try:
        model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=next(model.parameters()).device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    groups: dict[tuple[int, str], list[str]] = {}
    for identity, name in asked:
        groups.setdefault((identity, name.rpartition(".")[0]), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def untouched(model: nn.Module, smallest: int = 100_000) -> list[str]:
    """Large parameters that no target covers (fused experts, position tables): left alone, and named on the page."""
    covered = {f"{target.name}.weight" for target in targets(model)}
    return [n for n, p in model.named_parameters() if p.dim() > 1 and p.numel() >= smallest and n not in covered]


def _shape(weight: Tensor) -> tuple[int, int]:
    return weight.shape[0], weight.shape[1]
