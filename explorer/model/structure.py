"""reduce(base, shares, facts) → a smaller model of the same family: fewer blocks, narrower MLPs, fewer attention heads.

The new model is built from its own config, on the meta device, and filled with tensors of the base. So it is what
`from_pretrained` will build from the exported config, and a family that cannot say the new shape there is refused.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from explorer.layers.dense import replace_linear_layers
from explorer.model.blocks import DepthMethod, drop_blocks
from explorer.model.channels import WidthMethod, narrow_mlps
from explorer.model.cuts import Calibration, Cuts
from explorer.model.families import in_attention, is_conv1d
from explorer.model.heads import drop_heads

SHARES = (("depth", "blocks"), ("width", "MLP channels"), ("heads", "attention heads"))


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
    cuts = Cuts(base, facts)
    blocks = len(cuts.kept)
    drop_blocks(cuts, depth, depth_method)
    if width:
        narrow_mlps(cuts, width, width_method)
    if heads:
        drop_heads(cuts, heads)
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
        if is_conv1d(module) and isinstance(twin, nn.Linear):  # GPT-2, opened with plain linear layers
            module = nn.Linear(module.nx, module.nf, device="meta")
            module.transposed = getattr(twin, "transposed", False)  # type: ignore[assignment]
            model.set_submodule(name, module)
        new, old = _tensors(module), _tensors(twin)
        old |= {leaf: tensor for leaf in new if (tensor := cuts.get(f"{origin}.{leaf}")) is not None}
        same_parts = name == path or module._modules.keys() == twin._modules.keys()
        if not same_parts or {k: t.shape for k, t in new.items()} != {k: t.shape for k, t in old.items()}:
            what = "fewer attention heads" if in_attention(name) else "narrower MLPs"
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
