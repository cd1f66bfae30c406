"""Which matrices of a causal language model are compressed, and of what kind they are. Knows names and shapes only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from explorer.layers.dense import Linear
from explorer.layers.experts import Stack
from explorer.layers.linear import device_of
from explorer.layers.rotated import RotatedEmbedding

Kind = Literal["attention", "mlp", "embedding", "head"]
LLAMA_SHAPED = ("llama", "mistral", "qwen2", "qwen3")  # families whose blocks are built like Llama's
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")  # the config's word for how many
TOWERS = ("vision", "image", "visual", "audio", "speech")  # in names of what reads something other than text
MULTIPLIED_ELSEWHERE = ("dt_proj",)  # matrices that a family takes out of their layer, and multiplies itself


@dataclass(frozen=True, kw_only=True)
class Target:
    """One matrix: module name, kind, (rows, columns), number of its block; the name of the matrix that it shares its
    weight with, where an earlier one does (a head with the embedding, blocks that share an attention); for one of
    several experts how many there are and how many of them a token meets."""

    name: str
    kind: Kind
    shape: tuple[int, int]
    block: int = -1
    tied_to: str = ""
    experts: int = 0
    active: int = 0


def targets(model: nn.Module) -> list[Target]:
    """All linear layers inside the repeated blocks that read text, the token embedding and the output head, in the
    model's order; routers, which choose experts, are left alone."""
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    head = model.get_output_embeddings()  # type: ignore[operator]
    found, embedding_name, body = [], "", text_body(model)
    config: Any = model.config.get_text_config()  # type: ignore[union-attr, operator]
    routes, stacks = {1, *(getattr(config, word, None) for word in EXPERTS)}, dict[str, int]()
    seen = dict[int, str]()  # weights, and who had them first
    if type(embedding) not in (nn.Embedding, RotatedEmbedding) and not hasattr(embedding, "embed_scale"):
        embedding = head = None  # it does more than look rows up: left alone, and so is a head that may share it
    for name, module in model.named_modules():
        if isinstance(module, Stack):
            stacks[name] = module.experts
        if module is embedding and isinstance(module, nn.Embedding):
            embedding_name = name
            found.append(Target(name=name, kind="embedding", shape=_shape(module.weight)))
        elif module is head and _is_linear(module):
            tied = isinstance(embedding, nn.Embedding) and module.weight is embedding.weight
            found.append(
                Target(
                    name=name,
                    kind="head",
                    shape=_shape(module.weight),
                    tied_to=embedding_name if tied else "",
                )
            )
        elif _is_linear(module) and name.startswith(body) and not _of_a_tower(name):
            place = next((part for part in name.removeprefix(body).split(".") if part.isdigit()), "")
            owner, _, last = name.rpartition(".")
            kind: Kind = "attention" if "attn" in name or "attention" in name else "mlp"
            fits = "router" in name or (kind == "mlp" and module.weight.shape[0] in routes)
            routing = fits and owner not in stacks
            if not place or last in MULTIPLIED_ELSEWHERE or routing:
                continue
            many = stacks.get(owner, 0)
            first = seen.setdefault(id(module.weight), name)
            found.append(
                Target(
                    name=name,
                    kind=kind,
                    shape=_shape(module.weight),
                    block=int(place),
                    tied_to="" if first == name else first,
                    experts=many,
                    active=active_experts(config, many),
                )
            )
    return found


def _is_linear(module: nn.Module) -> bool:
    """Whether it multiplies by its weight, adds its bias, and does nothing else."""
    return type(module) in (nn.Linear, Linear) or type(module).__name__ == "FalconLinear"


def _of_a_tower(name: str) -> bool:
    return any(word in name.lower() for word in TOWERS)


def active_experts(config: Any, experts: int) -> int:
    """How many of so many experts a token meets."""
    words = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k", "top_k_experts", "top_k")
    asked = next((value for word in words if isinstance(value := getattr(config, word, None), int)), experts)
    return min(asked, experts)


def text_body(model: nn.Module) -> str:
    """The name, with a dot behind it, of the part that reads text: a composite model has others for pictures or sound.
    It is where the word table lies."""
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    name = next((name for name, module in model.named_modules() if module is embedding), "")
    owner = name.rpartition(".")[0]
    while owner and not any(isinstance(m, nn.ModuleList) for m in model.get_submodule(owner).modules()):
        owner = owner.rpartition(".")[0]  # the table of a module by itself, as BERT's is
    return f"{owner}." if owner else ""


def weight_of(module: nn.Module) -> Tensor:
    """The (rows, columns) = (out, in) weight of a linear layer."""
    weight: Tensor = module.weight.detach()  # type: ignore[union-attr, operator, assignment]
    return weight


def blocks_of(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Name and list of the repeated decoder blocks. ValueError where there is no such list."""
    count = model.config.get_text_config().num_hidden_layers  # type: ignore[union-attr, operator]
    body = text_body(model)
    for name, module in model.named_modules():
        reads_text = f"{name}.".startswith(body) and not _of_a_tower(name)
        if isinstance(module, nn.ModuleList) and len(module) == count and reads_text:
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
        model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=device_of(model)), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    groups: dict[tuple[int, str], list[str]] = {}
    for identity, name in asked:
        groups.setdefault((identity, name.rpartition(".")[0]), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def untouched(model: nn.Module, least: float = 0.001) -> tuple[list[str], float]:
    """Names of the parameters that no target covers and that hold at least this share of the bytes (position tables,
    towers, tables that are not only looked up), and the share of all that is not covered."""
    covered = {id(model.get_submodule(target.name).weight) for target in targets(model)}
    left = {name: p.nbytes for name, p in model.named_parameters() if id(p) not in covered}
    total = sum(p.nbytes for p in model.parameters())
    return [name for name, count in left.items() if count >= least * total], sum(left.values()) / total


def _shape(weight: Tensor) -> tuple[int, int]:
    return weight.shape[0], weight.shape[1]
