"""Which matrices of a causal language model are compressed, and of what kind they are. Knows names and shapes only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from explorer.layers.rotated import RotatedEmbedding

Kind = Literal["attention", "mlp", "embedding", "head"]
LLAMA_SHAPED = ("llama", "mistral", "qwen2", "qwen3")  # families whose blocks are built like Llama's


@dataclass(frozen=True, kw_only=True)
class Target:
    """One matrix: module name, kind, (rows, columns), number of its block, and for a tied head the embedding's name."""

    name: str
    kind: Kind
    shape: tuple[int, int]
    block: int = -1
    tied_to: str = ""


def targets(model: nn.Module) -> list[Target]:
    """All linear layers inside the repeated blocks, the token embedding and the output head, in the model's order.

    GPT-2's Conv1D is a linear layer whose weight is stored (in, out); its shape here is (out, in) like all others.
    """
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    head = model.get_output_embeddings()  # type: ignore[operator]
    found, embedding_name = [], ""
    if type(embedding) not in (nn.Embedding, RotatedEmbedding) and not hasattr(embedding, "embed_scale"):
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
        elif _is_linear(module) and any(part.isdigit() for part in name.split(".")):
            kind: Kind = "attention" if "attn" in name or "attention" in name else "mlp"
            block = int(next(part for part in name.split(".") if part.isdigit()))
            found.append(Target(name=name, kind=kind, shape=_shape(weight_of(module)), block=block))
    return found


def weight_of(module: nn.Module) -> Tensor:
    """The (rows, columns) = (out, in) weight of a linear layer, whichever way it is kept."""
    weight: Tensor = module.weight.detach()  # type: ignore[union-attr, operator, assignment]
    return weight.T if type(module).__name__ == "Conv1D" else weight


def blocks_of(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Name and list of the repeated decoder blocks. ValueError where there is no such list."""
    count = model.config.get_text_config().num_hidden_layers  # type: ignore[union-attr, operator]
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise ValueError(f"{type(model).__name__} has no plain list of blocks, so none can be removed.")


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


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _shape(weight: Tensor) -> tuple[int, int]:
    return weight.shape[0], weight.shape[1]
