"""The slider state as a value. A recipe says how to make a model smaller; `Recipe()` leaves it as it is.

It knows nothing about tensors or models. Ranges are declared here once; the page and the command line read them.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any
from urllib.parse import urlencode

BITS = (16, 8, 6, 5, 4, 3, 2)
GROUPS = ("auto", "64", "32", "row")


@dataclass(frozen=True, kw_only=True)
class Range:
    """The allowed values of a slider: `low`, `low + step`, … `high`."""

    low: float
    high: float
    step: float


SPARSITY = Range(low=0.0, high=0.9, step=0.05)
KEEP = Range(low=0.2, high=1.0, step=0.05)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to make a model smaller; hashable, and checked on creation (ValueError names the field and its range).

    sparsity: share of each row's weights set to zero, smallest first.
    bits: bits of each stored weight (16 = the reference dtype).
    keep: share of each matrix's parameters that its two thin factors may hold (1 = not factorized).
    head_bits: bits of the embedding and the output head.
    group: weights that share one scale along a row; `auto` = whole rows at 8 bits (the int8 kernel), else 64.
    """

    sparsity: float = 0.0
    bits: int = 16
    keep: float = 1.0
    head_bits: int = 16
    group: str = "auto"

    def __post_init__(self) -> None:
        for name, range_ in (("sparsity", SPARSITY), ("keep", KEEP)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
                raise ValueError(f"{name} must be a number, not {str(value)[:20]}.")
            value = round(value, 4)  # so that 1 - 16 × 0.05 counts as 0.2
            if not range_.low <= value <= range_.high:
                allowed = f"between {range_.low:g} and {range_.high:g}"
                raise ValueError(f"{name} must lie {allowed}, not {str(value)[:20]}.")
            object.__setattr__(self, name, float(value))
        for name in ("bits", "head_bits"):
            value = getattr(self, name)
            if isinstance(value, bool) or value not in BITS:
                raise ValueError(f"{name} must be one of {', '.join(map(str, BITS))}, not {value!r}.")
            object.__setattr__(self, name, int(value))
        if self.group not in GROUPS:
            raise ValueError(f"group must be one of {', '.join(GROUPS)}, not {self.group!r}.")

    def group_size(self, bits: int) -> int:
        """Weights per scale at this width; 0 means a whole row."""
        if self.group == "auto":
            return 0 if bits == 8 else 64
        return 0 if self.group == "row" else int(self.group)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """Build from JSON or a URL query; unknown keys are refused, text becomes numbers."""
        known = {field.name: field.type for field in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"Unknown setting: {', '.join(unknown)}. Known: {', '.join(known)}.")
        return cls(**{name: _convert(name, value, known[name]) for name, value in values.items()})

    def to_query(self) -> str:
        """Only what differs from `Recipe()`, as a URL query without the question mark."""
        plain = Recipe()
        return urlencode({k: v for k, v in self.to_dict().items() if v != getattr(plain, k)})

    def words(self) -> str:
        """The setting in a few words, for labels: `4 bits, 50 % zeros`."""
        parts = []
        if self.keep < 1:
            parts.append(f"{self.keep:.0%} kept in factors".replace("%", " %"))
        if self.sparsity:
            parts.append(f"{self.sparsity:.0%} zeros".replace("%", " %"))
        if self.bits < 16:
            parts.append(f"{self.bits} bits")
        if self.head_bits < 16:
            parts.append(f"head {self.head_bits} bits")
        if self.group != "auto" and min(self.bits, self.head_bits) < 16:
            parts.append("whole rows" if self.group == "row" else f"groups of {self.group}")
        return ", ".join(parts) or "original"


PRESETS: Mapping[str, Recipe] = {
    "Original": Recipe(),
    "Half": Recipe(bits=8, head_bits=8),
    "Quarter": Recipe(bits=4, head_bits=4),
    "Half zeros": Recipe(sparsity=0.5),
    "Thin factors": Recipe(keep=0.6),
    "Too far": Recipe(sparsity=0.5, bits=2, head_bits=4),
}


def _convert(name: str, value: Any, kind: Any) -> Any:
    if not isinstance(value, str) or kind is str:
        return value
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"{name} must be a number, not {value!r}.") from None
