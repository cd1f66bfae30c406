"""reduce(base, shares, facts) → a smaller model of the same family: fewer blocks, narrower MLPs, fewer attention heads.

The new model is built from its own config, on the meta device, and filled with tensors of the base. So it is what
`from_pretrained` will build from the exported config, and a family that cannot say the new shape there is refused.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from explorer.layers.uniform import uniform
from explorer.methods.structure import kept_blocks
from explorer.model.blocks import DepthMethod, choices, without
from explorer.model.channels import WidthMethod, narrow_mlps
from explorer.model.cuts import BlockScores, Calibration, Cuts
from explorer.model.families import in_attention
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
    scores: BlockScores | None = None,
) -> Reduced:
    """Remove these shares of the blocks, of each MLP's channels and of each attention's groups of heads; 0 is none.

    The base is never touched; tensors that stay whole are shared with it. Without facts (for sizes alone, the base may
    be on the meta device) the first of everything is kept; blocks go by `scores` where those alone are known.
    ValueError in one sentence for what a family cannot do.
    """
    for (name, what), share in zip(SHARES, (depth, width, heads), strict=True):
        if not 0 <= share < 1:
            raise ValueError(f"The share of {what} to remove ({name}) must be at least 0 and below 1, not {share!r}.")
    cuts, model = _without_blocks(base, facts, depth, depth_method, scores or facts)
    if width:
        narrow_mlps(cuts, width, width_method)
    if heads:
        drop_heads(cuts, heads)
    path, kept, note = cuts.path, cuts.kept, " ".join(cuts.notes)
    if cuts.tensors:
        model = _build(base, cuts.config, path, kept, cuts.tensors)
    if model is None:
        return Reduced(model=base, origin={name: name for name, _ in base.named_modules()}, note=note)
    origin = {name: _origin(name, path, kept) for name, _ in model.named_modules()}
    return Reduced(
        model=model,
        origin=origin,
        changed=frozenset(new for new, old in origin.items() if f"{old}.weight" in cuts.tensors),
        kept_channels={new: cuts.channels[old] for new, old in origin.items() if old in cuts.channels},
        note=note,
    )


def _without_blocks(
    base: nn.Module, facts: Calibration | None, removed: float, method: DepthMethod, scores: BlockScores | None
) -> tuple[Cuts, nn.Module | None]:
    """The first choice of blocks that the family's own rules accept, and the model without them; None where all stay.
    ValueError where they accept none."""
    cuts = Cuts(base, facts)
    blocks = len(cuts.kept)
    count = kept_blocks(blocks, removed)
    if count == blocks:
        return cuts, None
    refusal = ""
    for kept in choices(blocks, count, method, scores):
        cuts = Cuts(base, facts)
        cuts.kept = kept
        try:
            cuts.config = without(base.config, kept, blocks)
            return cuts, _build(base, cuts.config, cuts.path, kept, {})
        except Exception as error:  # each family checks its config in its own way
            refusal = refusal or _plainly(error)
    raise ValueError(refusal)


def _build(base: nn.Module, config: Any, path: str, kept: list[int], cuts: dict[str, Tensor]) -> nn.Module:
    """The model that this config describes, filled with the new tensors and, for all the rest, the base's own."""
    config = _as_read(config, base.config)
    try:
        with torch.device("meta"):
            model: Any = uniform(type(base)(config))
    except Exception as error:  # each family checks its config in its own way
        raise ValueError(f"{type(base).__name__} cannot be built in that shape: {_plainly(error)}") from None
    for name, module in list(model.named_modules()):
        origin = _origin(name, path, kept)
        twin = _twin(base, origin)
        new, old = _tensors(module), _tensors(twin)
        old |= {leaf: tensor for leaf in new if (tensor := cuts.get(f"{origin}.{leaf}")) is not None}
        if name == origin and not name.startswith(f"{path}."):
            blocks = len(base.get_submodule(path))  # type: ignore[arg-type]
            old = {leaf: _by_block(tensor, new.get(leaf, tensor).shape, kept, blocks) for leaf, tensor in old.items()}
        same_parts = name == path or module._modules.keys() == twin._modules.keys()
        if not same_parts or {k: t.shape for k, t in new.items()} != {k: t.shape for k, t in old.items()}:
            what = "fewer attention heads" if in_attention(name) else "narrower MLPs"
            what = what if cuts else "the blocks that are left: another kind of block stands in their place"
            raise ValueError(f"{type(base).__name__} has no setting for {what}.")
        for leaf, empty in new.items():
            cut = isinstance(empty, nn.Parameter) and not isinstance(old[leaf], nn.Parameter)
            setattr(module, leaf, nn.Parameter(old[leaf], requires_grad=False) if cut else old[leaf])
    model.generation_config = copy.deepcopy(getattr(base, "generation_config", None))
    return model.train(base.training)  # type: ignore[no-any-return]


def _by_block(tensor: Tensor, wanted: torch.Size, kept: list[int], blocks: int) -> Tensor:
    """A tensor outside the blocks that holds a part for each (Gemma 3n's tables), without those of the others."""
    for side, (was, now) in enumerate(zip(tensor.shape, wanted, strict=False)):
        if was != now and was % blocks == 0 and was // blocks * len(kept) == now:
            shape = [*tensor.shape[:side], blocks, was // blocks, *tensor.shape[side + 1 :]]
            parts = tensor.view(shape).index_select(side, torch.tensor(kept, device=tensor.device))
            tensor = nn.Parameter(parts.flatten(side, side + 1), requires_grad=False)
    return tensor


def _as_read(config: Any, original: Any) -> Any:
    """What a reader of config.json will see, with the attention that the original runs."""
    again = type(config).from_dict(config.to_dict())
    for part in ("", *getattr(config, "sub_configs", {})):
        old, new = (getattr(each, part, None) if part else each for each in (original, again))
        if old is not None and new is not None:
            new._attn_implementation = old._attn_implementation
    return again


def _twin(base: nn.Module, name: str) -> nn.Module:
    try:
        return base.get_submodule(name)
    except AttributeError:
        raise ValueError(f"{type(base).__name__} builds other parts when blocks are missing ({name}).") from None


def _plainly(error: Exception) -> str:
    """The last line of what a family's check says: those before it only name the field."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return line.strip().removeprefix("ValueError: ")[:200]


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's own parameters and buffers by name."""
    return dict([*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)])


def _origin(name: str, path: str, kept: list[int]) -> str:
    """The base's name for a module of the reduced model."""
    if not name.startswith(f"{path}."):
        return name
    place, _, rest = name.removeprefix(f"{path}.").partition(".")
    return f"{path}.{kept[int(place)]}" + (f".{rest}" if rest else "")
