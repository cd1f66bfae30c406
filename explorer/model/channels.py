"""Fewer intermediate channels in every MLP."""

from typing import Literal

import torch
from torch import Tensor

from explorer.methods import structure
from explorer.model.cuts import Cuts
from explorer.model.families import WIDTHS, matrix_of, mlp_of

WidthMethod = Literal["nystrom", "flap"]


def narrow_mlps(cuts: Cuts, removed: float, method: WidthMethod) -> None:
    """Keep the same number of intermediate channels in every MLP."""
    config = cuts.config.get_text_config()
    field_name = next((name for name in WIDTHS if hasattr(config, name)), "")
    mlps = [mlp_of(cuts.base, block) for block in cuts.blocks]
    totals = {matrix_of(cuts.linear(mlp[-1])).shape[1] for mlp in mlps}
    if len(totals) > 1 or not field_name:
        raise ValueError(f"{cuts.family} has no one setting for the width of all its MLPs, so it cannot be reduced.")
    total = totals.pop()
    count = structure.kept_channels(total, removed)
    if count == total:
        return
    biased = method == "flap" and (cuts.linear(mlps[0][-1]).bias is not None or hasattr(config, "mlp_bias"))
    if method == "flap" and not biased:
        cuts.notes += [f"{cuts.family} has no place for a bias in its MLPs, so what FLAP would add is left out."]
    if biased and hasattr(config, "mlp_bias"):
        config.mlp_bias = True
    setattr(config, field_name, count)
    for *inner, down in mlps:
        kept = _strongest(cuts, down, count, method)
        cuts.keep_columns(down, kept, method == "nystrom")
        for name in inner:
            copies = matrix_of(cuts.linear(name)).shape[0] // total  # 2 where gate and up are one matrix
            cuts.keep_rows(name, torch.cat([kept + total * i for i in range(copies)]))
            if biased and cuts.linear(name).bias is None:
                cuts.tensors[f"{name}.bias"] = matrix_of(cuts.linear(name)).new_zeros(copies * count)
        if biased:
            _add_mean(cuts, down, kept)


def _strongest(cuts: Cuts, down: str, count: int, method: WidthMethod) -> Tensor:
    weight = matrix_of(cuts.linear(down))
    if cuts.facts is None:
        return torch.arange(count, device=weight.device)
    gram = cuts.gram(down, weight)
    if method == "nystrom":
        return structure.strongest(structure.energy(weight, gram), count)
    return structure.strongest(structure.fluctuation(weight, gram, cuts.facts.mean(down).to(weight.device)), count)


def _add_mean(cuts: Cuts, name: str, kept: Tensor) -> None:
    weight, bias = matrix_of(cuts.linear(name)), cuts.linear(name).bias
    more = weight.new_zeros(weight.shape[0], dtype=torch.float32)
    if cuts.facts is not None:
        more = structure.mean_bias(weight, cuts.facts.mean(name).to(weight.device), kept)
    cuts.tensors[f"{name}.bias"] = (more if bias is None else bias.detach().float() + more).to(weight.dtype)
