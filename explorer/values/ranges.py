"""What each field of a recipe may be: declared here once; the page and the command line are built from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Range:
    """The allowed values of a slider: `low`, `low + step`, … `high`."""

    low: float
    high: float
    step: float


RANGES: Mapping[str, Range] = {
    "sparsity": Range(low=0.0, high=0.9, step=0.05),
    "keep": Range(low=0.2, high=1.0, step=0.05),
    "depth": Range(low=0.0, high=0.9, step=0.01),
    "width": Range(low=0.0, high=0.9, step=0.05),
    "heads": Range(low=0.0, high=0.9, step=0.05),
    "residual_rank": Range(low=0, high=128, step=8),
    "heal": Range(low=0, high=1000, step=10),
    "heal_rate": Range(low=0.1, high=10, step=0.1),
    "heal_seed": Range(low=0, high=999, step=1),
}
SPARSITY, KEEP = RANGES["sparsity"], RANGES["keep"]
BITS = (16, 8, 7, 6, 5, 4, 3, 2)
CHOICES: Mapping[str, tuple[str, ...]] = {
    "prune": ("magnitude", "wanda", "ria", "sparsegpt"),
    "pattern": ("unstructured", "2:4", "4:8"),
    "scope": ("row", "layer", "global"),
    "quant": ("rtn", "search", "hqq", "gptq", "awq", "nf4", "fp4", "int8"),
    "group": ("auto", "64", "32", "0"),
    "factorize": ("svd", "asvd", "covariance"),
    "allocate": ("uniform", "global"),
    "depth_by": ("influence", "angular"),
    "width_by": ("nystrom", "flap"),
}
GROUPS = CHOICES["group"]
BITS_OF = {"nf4": 4, "fp4": 4, "int8": 8}  # formats of bitsandbytes hold these widths only
DATA_FREE = {"prune": "magnitude", "quant": "rtn", "factorize": "svd"}
BEST = {"prune": "sparsegpt", "quant": "gptq"}
KINDS = ("attention", "mlp", "head", "embedding", "first", "last")


def in_range(name: str, value: Any, range_: Range) -> float:
    """The value as a number of this range; ValueError in one sentence."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise ValueError(f"{name} must be a number, not {str(value)[:20]}.")
    value = round(value, 4)  # so that 1 - 16 × 0.05 counts as 0.2
    if not range_.low <= value <= range_.high:
        raise ValueError(f"{name} must lie between {range_.low:g} and {range_.high:g}, not {str(value)[:20]}.")
    return float(value)


def convert(name: str, value: Any, kind: Any) -> Any:
    """Text from an address or a file as the kind that a field has; what is no such text stays as it is."""
    if not isinstance(value, str) or kind not in (int, float, bool):
        return value
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower(), value)
    try:
        number = float(value)
        return int(number) if kind is int and number == int(number) else number
    except (ValueError, OverflowError):
        raise ValueError(f"{name} must be a number, not {value!r}.") from None
