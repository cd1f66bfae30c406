"""Which matrices of a causal language model are compressed, and of what kind they are. Knows names and shapes only."""

from dataclasses import dataclass
from typing import Literal

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


def untouched(model: nn.Module, smallest: int = 100_000) -> list[str]:
    """Large parameters that no target covers (fused experts, position tables): left alone, and named on the page."""
    covered = {f"{target.name}.weight" for target in targets(model)}
    return [n for n, p in model.named_parameters() if p.dim() > 1 and p.numel() >= smallest and n not in covered]


def _shape(weight: Tensor) -> tuple[int, int]:
    return weight.shape[0], weight.shape[1]
