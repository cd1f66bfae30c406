"""reduce(base, shares, facts) → a smaller model of the same family: fewer blocks, narrower MLPs, fewer attention heads.

The new model is built from its own config, on the meta device, and filled with tensors of the base. So it is what
`from_pretrained` will build from the exported config, and a family that cannot say the new shape there is refused.
"""

import copy
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from explorer.layers.dense import replace_linear_layers
from explorer.layers.targets import blocks_of
from explorer.methods import structure

DepthMethod = Literal["influence", "angular"]
WidthMethod = Literal["nystrom", "flap"]
WIDTHS = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")  # the config's names for an MLP's width
NUMBERED = ("moe_layers", "mlp_only_layers")  # the config's lists of block numbers
INPUTS = ("q_proj", "k_proj", "v_proj")
OUTPUTS = ("o_proj", "out_proj", "dense")  # an attention's last matrix, by family
SHARES = (("depth", "blocks"), ("width", "MLP channels"), ("heads", "attention heads"))


class Calibration(Protocol):
    """What choosing needs to know of the inputs of the base's linear layers, by name, and of its blocks."""

    @property
    def angles(self) -> Tensor:
        """(blocks + 1, blocks + 1) angles between the hidden states at the places between blocks."""

    @property
    def drop_scores(self) -> Tensor:
        """(blocks,) cost of dropping each."""

    def gram(self, name: str) -> Tensor | None:
        """(m, m) float32 E[x xᵀ]; None before calibration."""

    def mean(self, name: str) -> Tensor:
        """(m,) float32 E[x]."""


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """A smaller model and how it came from the base.

    origin: new module name → the base's. changed: new names of linear layers with other weights than their origin.
    kept_channels: new name of a linear layer → the input columns of its origin that it kept, ascending.
    """

    model: nn.Module
    origin: dict[str, str]
    changed: frozenset[str] = frozenset()
    kept_channels: dict[str, Tensor] = field(default_factory=dict)
    note: str = ""


def reduce(
    base: nn.Module,
    *,
    depth: float = 0.0,
    width: float = 0.0,
    heads: float = 0.0,
    depth_method: DepthMethod = "influence",
    width_method: WidthMethod = "nystrom",
    facts: Calibration | None,
) -> Reduced:
    """Remove these shares of the blocks, of each MLP's channels and of each attention's groups of heads; 0 is none.

    The base is never touched; tensors that stay whole are shared with it. Without facts (for sizes alone, the base may
    be on the meta device) the first of everything is kept. ValueError in one sentence for what a family cannot do.
    """
    for (name, what), share in zip(SHARES, (depth, width, heads), strict=True):
        if not 0 <= share < 1:
            raise ValueError(f"The share of {what} to remove ({name}) must be at least 0 and below 1, not {share!r}.")
    cuts = _Cuts(base, facts)
    blocks = len(cuts.kept)
    if structure.kept_blocks(blocks, depth) < blocks:
        cuts.depth(structure.kept_blocks(blocks, depth), depth_method)
    if width:
        cuts.width(width, width_method)
    if heads:
        cuts.heads(heads)
    path, kept, note = cuts.path, cuts.kept, " ".join(cuts.notes)
    if len(kept) == blocks and not cuts.tensors:
        return Reduced(model=base, origin={name: name for name, _ in base.named_modules()}, note=note)
    model = _build(base, cuts.config, path, kept, cuts.tensors)
    origin = {name: _origin(name, path, kept) for name, _ in model.named_modules()}
    return Reduced(
        model=model,
        origin=origin,
        changed=frozenset(new for new, old in origin.items() if f"{old}.weight" in cuts.tensors),
        kept_channels={new: cuts.channels[old] for new, old in origin.items() if old in cuts.channels},
        note=note,
    )


class _Cuts:
    """What a reduced model has that its base has not: its config, the blocks it keeps, and its new tensors."""

    def __init__(self, base: nn.Module, facts: Calibration | None) -> None:
        self.base, self.facts = base, facts
        self.config: Any = copy.deepcopy(base.config)
        self.path, blocks = blocks_of(base)
        self.family = type(base).__name__
        self.kept = list(range(len(blocks)))
        self.tensors: dict[str, Tensor] = {}  # by the name they have in the base
        self.channels: dict[str, Tensor] = {}  # kept input columns, by the base's name of the linear layer
        self.notes: list[str] = []

    def _gram(self, name: str, weight: Tensor) -> Tensor:
        found = self.facts.gram(name) if self.facts else None
        if found is None:
            raise ValueError("What can be taken out is known once the calibration texts went through the model.")
        return found.to(weight.device)

    def depth(self, count: int, method: DepthMethod) -> None:
        """Keep `count` blocks."""
        blocks = len(self.kept)
        order = list(reversed(range(blocks)))
        if self.facts is not None:
            run = structure.best_run(self.facts.angles, blocks - count) if method == "angular" else []
            order = [*run, *(b for b in structure.cheapest_first(self.facts.drop_scores) if b not in run)]
        self.kept = sorted(order[blocks - count :])
        config = self.config.get_text_config()
        for name, value in vars(config).items():
            if name in NUMBERED and value:
                setattr(config, name, [self.kept.index(block) for block in value if block in self.kept])
            elif isinstance(value, list | tuple) and len(value) == blocks and "layer" in name:
                setattr(config, name, [value[block] for block in self.kept])  # layer_types, no_rope_layers, …
        if hasattr(config, "attention_types"):  # GPT-Neo reads its list of layers from this one
            config.attention_types = [[config.attention_layers, 1]]
        config.num_hidden_layers = count

    def width(self, removed: float, method: WidthMethod) -> None:
        """Keep the same number of intermediate channels in every MLP."""
        config = self.config.get_text_config()
        field_name = next((name for name in WIDTHS if hasattr(config, name)), "")
        mlps = [self._mlp(block) for block in self.kept]
        totals = {_matrix(self._linear(mlp[-1])).shape[1] for mlp in mlps}
        if len(totals) > 1 or not field_name:
            raise ValueError(
                f"{self.family} has no one setting for the width of all its MLPs, so it cannot be reduced."
            )
        total = totals.pop()
        count = structure.kept_channels(total, removed)
        if count == total:
            return
        biased = method == "flap" and (self._linear(mlps[0][-1]).bias is not None or hasattr(config, "mlp_bias"))
        if method == "flap" and not biased:
            self.notes += [f"{self.family} has no place for a bias in its MLPs, so what FLAP would add is left out."]
        if biased and hasattr(config, "mlp_bias"):
            config.mlp_bias = True
        setattr(config, field_name, count)
        for *inner, down in mlps:
            kept = self._channels(down, count, method)
            self._narrow_output(down, kept, method == "nystrom")
            for name in inner:
                copies = _matrix(self._linear(name)).shape[0] // total  # 2 where gate and up are one matrix
                self._keep_rows(name, torch.cat([kept + total * i for i in range(copies)]))
                if biased and self._linear(name).bias is None:
                    self.tensors[f"{name}.bias"] = _matrix(self._linear(name)).new_zeros(copies * count)
            if biased:
                self._add_mean(down, kept)

    def heads(self, removed: float) -> None:
        """Keep the same number of groups of heads, each with its key and value head, in every attention."""
        attentions = [self._attention(block) for block in self.kept]
        config = self.config.get_text_config()
        old = config.num_attention_heads
        groups = getattr(config, "num_key_value_heads", None) or old
        head = _matrix(self._linear(attentions[0][3])).shape[1] // old
        for attention in attentions:
            rows = [_matrix(self._linear(name)).shape[0] for name in attention[:3]]
            if rows != [old * head, groups * head, groups * head]:
                raise ValueError(f"{self.family} has heads of several sizes, so heads cannot be removed.")
        wanted = structure.kept_groups(groups, removed)
        count = self._allowed_groups(wanted, groups, old // groups, head)
        if count != wanted:
            self.notes += [f"{self.family} cannot have {wanted} groups of heads at this hidden size; {count} are kept."]
        if count == groups:
            return
        for query, key, value, output in attentions:
            weight = _matrix(self._linear(output))
            chosen = torch.arange(count, device=weight.device)
            if self.facts is not None:
                gram = self._gram(output, weight)
                chosen = structure.strongest(structure.group_scores(weight, gram, groups), count)
            self._keep_rows(query, structure.columns_of(chosen, old // groups * head))
            for name in (key, value):
                self._keep_rows(name, structure.columns_of(chosen, head))
            self._narrow_output(output, structure.columns_of(chosen, old // groups * head), True)

    def _allowed_groups(self, wanted: int, groups: int, queries: int, head: int) -> int:
        """The number of groups nearest to the wanted one that the config agrees to (Llama's heads must divide it)."""
        for count in sorted(range(1, groups + 1), key=lambda count: abs(count - wanted)):  # of two as near, the fewer
            if count == groups:
                break
            trial = copy.deepcopy(self.config)
            config = trial.get_text_config()
            config.head_dim, config.num_attention_heads = head, queries * count
            if hasattr(config, "num_key_value_heads"):
                config.num_key_value_heads = count
            try:
                type(trial).from_dict(trial.to_dict())
            except Exception:  # each family checks in its own way
                continue
            self.config = trial
            return count
        return groups

    def _channels(self, down: str, count: int, method: WidthMethod) -> Tensor:
        weight = _matrix(self._linear(down))
        if self.facts is None:
            return torch.arange(count, device=weight.device)
        gram = self._gram(down, weight)
        if method == "nystrom":
            return structure.strongest(structure.energy(weight, gram), count)
        return structure.strongest(structure.fluctuation(weight, gram, self.facts.mean(down).to(weight.device)), count)

    def _keep_rows(self, name: str, rows: Tensor) -> None:
        linear = self._linear(name)
        self._put(name, _matrix(linear)[rows])
        if linear.bias is not None:
            self.tensors[f"{name}.bias"] = linear.bias.detach()[rows]

    def _narrow_output(self, name: str, kept: Tensor, make_up: bool) -> None:
        weight = _matrix(self._linear(name))
        self.channels[name] = kept
        if self.facts is None or not make_up:
            self._put(name, weight[:, kept])
        else:
            self._put(name, structure.compensate(weight, self._gram(name, weight), kept))

    def _add_mean(self, name: str, kept: Tensor) -> None:
        weight, bias = _matrix(self._linear(name)), self._linear(name).bias
        more = weight.new_zeros(weight.shape[0], dtype=torch.float32)
        if self.facts is not None:
            more = structure.mean_bias(weight, self.facts.mean(name).to(weight.device), kept)
        self.tensors[f"{name}.bias"] = (more if bias is None else bias.detach().float() + more).to(weight.dtype)

    def _put(self, name: str, matrix: Tensor) -> None:
        """Keep a (outputs, inputs) matrix the way round that the layer stores it."""
        self.tensors[f"{name}.weight"] = (matrix.T if _transposed(self._linear(name)) else matrix).contiguous()

    def _linear(self, name: str) -> Any:
        return self.base.get_submodule(name)

    def _mlp(self, block: int) -> list[str]:
        """Names of the linear layers of an MLP, the one that leads back to the residual stream last."""
        prefix = f"{self.path}.{block}"
        names = [
            f"{prefix}.{name}"
            for name, module in self.base.get_submodule(prefix).named_modules()
            if (isinstance(module, nn.Linear) or _transposed(module)) and not _in_attention(name)
        ]
        shapes = [_matrix(self._linear(name)).shape for name in names]
        hidden = _config(self.base).hidden_size
        plain = len(names) > 1 and shapes[-1][0] == hidden
        for name, (rows, columns) in zip(names[:-1], shapes[:-1], strict=True):
            whole = 2 * shapes[-1][1] if name.endswith("gate_up_proj") else shapes[-1][1]
            plain = plain and rows == whole and columns == hidden
        if not plain:
            raise ValueError(f"{self.family} has blocks without one plain MLP, so their width cannot be reduced.")
        return names

    def _attention(self, block: int) -> tuple[str, str, str, str]:
        """Names of the query, key, value and output matrices of a block."""
        prefix = f"{self.path}.{block}"
        for name, module in self.base.get_submodule(prefix).named_modules():
            children = dict(module.named_children())
            output = next((each for each in OUTPUTS if each in children), "")
            if output and set(INPUTS) <= children.keys():
                rest = [each for child in children.keys() - {*INPUTS, output} for each in children[child].parameters()]
                if any(_matrix(children[output]).shape[1] in each.shape for each in rest):
                    raise ValueError(f"{self.family} has norms over all heads at once, so heads cannot be removed.")
                query, key, value = (f"{prefix}.{name}.{each}" for each in INPUTS)
                return query, key, value, f"{prefix}.{name}.{output}"
        raise ValueError(
            f"{self.family} has no separate query, key and value matrices in every block, so heads cannot be removed."
        )


def _build(base: nn.Module, config: Any, path: str, kept: list[int], cuts: dict[str, Tensor]) -> nn.Module:
    """The model that this config describes, filled with the new tensors and, for all the rest, the base's own."""
    attention = config._attn_implementation
    config = type(config).from_dict(config.to_dict())  # what a reader of config.json will see
    config._attn_implementation = attention
    try:
        with torch.device("meta"):
            model: Any = type(base)(config)
    except Exception as error:  # each family checks its config in its own way
        raise ValueError(f"{type(base).__name__} cannot be built in that shape: {error}") from None
    for name, module in list(model.named_modules()):
        origin = _origin(name, path, kept)
        twin = base.get_submodule(origin)
        if _transposed(module) and isinstance(twin, nn.Linear):  # GPT-2, opened with plain linear layers
            module = nn.Linear(module.nx, module.nf, device="meta")
            module.transposed = getattr(twin, "transposed", False)  # type: ignore[assignment]
            model.set_submodule(name, module)
        new, old = _tensors(module), _tensors(twin)
        old |= {leaf: tensor for leaf in new if (tensor := cuts.get(f"{origin}.{leaf}")) is not None}
        same_parts = name == path or module._modules.keys() == twin._modules.keys()
        if not same_parts or {k: t.shape for k, t in new.items()} != {k: t.shape for k, t in old.items()}:
            what = "fewer attention heads" if _in_attention(name) else "narrower MLPs"
            what = what if cuts else "these of its blocks alone"
            raise ValueError(f"{type(base).__name__} has no setting for {what}.")
        for leaf, empty in new.items():
            cut = isinstance(empty, nn.Parameter) and not isinstance(old[leaf], nn.Parameter)
            setattr(module, leaf, nn.Parameter(old[leaf], requires_grad=False) if cut else old[leaf])
    model.generation_config = copy.deepcopy(getattr(base, "generation_config", None))
    return replace_linear_layers(model).train(base.training)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's own parameters and buffers by name."""
    return dict([*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)])


def _origin(name: str, path: str, kept: list[int]) -> str:
    """The base's name for a module of the reduced model."""
    if not name.startswith(f"{path}."):
        return name
    place, _, rest = name.removeprefix(f"{path}.").partition(".")
    return f"{path}.{kept[int(place)]}" + (f".{rest}" if rest else "")


def _config(model: nn.Module) -> Any:
    found: Any = model
    return found.config.get_text_config()


def _matrix(linear: Any) -> Tensor:
    """(outputs, inputs), whichever way round it is stored."""
    weight: Tensor = linear.weight.detach()
    return weight.T if _transposed(linear) else weight


def _transposed(module: nn.Module) -> bool:
    """Whether this is GPT-2's Conv1D, which stores (inputs, outputs)."""
    return hasattr(module, "nf") and hasattr(module, "nx")


def _in_attention(name: str) -> bool:
    return "attn" in name or "attention" in name
