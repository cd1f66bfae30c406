"""One matrix before and after: how its weights are spread, on which levels rounding put them, how fast its singular
values fall, and where a rank cuts them off."""

from typing import Any

import torch
from torch import Tensor, nn

from explorer.layers.linear import CompressedLinear
from explorer.layers.storage import Quantized, Sparse, Stored
from explorer.layers.targets import weight_of
from explorer.values.matrices import Inside

BINS = 121
REACH = 4.0  # standard deviations to either side; what lies beyond is counted in the last bins
MOST_LEVELS = 64  # more than these cannot be told apart in a picture
POINTS = 200  # of a spectrum


@torch.no_grad()
def look(name: str, plain: nn.Module, module: nn.Module) -> Inside:
    """The original's layer or embedding of this name beside the compressed one, which is not settled."""
    before = weight_of(plain).float()
    layer: Any = module
    if isinstance(module, CompressedLinear):
        after, branch = module.decoded(), list[Stored](layer.branches[0])
    elif hasattr(module, "stored"):
        after, branch = layer.stored.dense().float(), [layer.stored]
    else:
        after, branch = before, []
    after = after.to(before.device)
    reach = REACH * float(before.std()) or 1.0
    values = torch.linalg.svdvals(before)
    places = torch.linspace(0, len(values) - 1, min(POINTS, len(values))).round().long()
    return Inside(
        name=name,
        reach=reach,
        before=_counts(before, reach),
        after=_counts(after, reach),
        levels=_levels(branch),
        ranks=tuple((places + 1).tolist()),
        spectrum=tuple((values[places] / values[0].clamp(min=1e-30)).tolist()),
        cut=branch[0].shape[1] if len(branch) == 2 else None,
    )


def _counts(weight: Tensor, reach: float) -> tuple[int, ...]:
    places = ((weight.flatten() / reach + 1) / 2 * BINS).nan_to_num().clamp(0, BINS - 1).long()
    counts: list[int] = places.bincount(minlength=BINS).tolist()
    return tuple(counts)


def _levels(branch: list[Stored]) -> tuple[float, ...]:
    """The values that weights of the first row's first group can have; none where they are not rounded."""
    stored = branch[0] if len(branch) == 1 else None
    inner = stored.kept if isinstance(stored, Sparse) else stored
    if not isinstance(inner, Quantized) or 2**inner.bits > MOST_LEVELS:
        return ()
    scale, zero = inner.scale[0, 0].float(), inner.zeros()[0, 0].float()
    codes = torch.arange(2**inner.bits, device=scale.device)
    found: list[float] = ((codes - zero) * scale).tolist()
    return tuple(found)
