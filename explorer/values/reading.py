"""One number: its value, its unit, how it was obtained, and how far it may be off. Knows no torch and no HTML."""

import math
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

How = Literal["measured", "calculated", "estimated", "simulated"]


BUSY = 0.25  # a spread above this share of the median: something else was running


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One number: value, unit, how it was obtained, its spread (10th to 90th percentile, or a 95 % interval) and n;
    `se` is the standard error where the interval was worked out from one."""

    value: float
    unit: str
    how: How
    low: float | None = None
    high: float | None = None
    n: int | None = None
    se: float | None = None

    @classmethod
    def timing(cls, samples: list[float], unit: str = "ms") -> "Reading":
        """Median with 10th and 90th percentile of at least one sample."""
        ordered = sorted(samples)
        last = len(ordered) - 1
        low, high = ordered[round(0.1 * last)], ordered[round(0.9 * last)]
        return cls(value=median(ordered), unit=unit, how="measured", low=low, high=high, n=len(ordered))

    @property
    def spread(self) -> float:
        """10th to 90th percentile as a share of the value; 0 where it is not known."""
        known = self.low is not None and self.high is not None and self.value
        return (self.high - self.low) / abs(self.value) if known else 0.0  # type: ignore[operator]

    def to_dict(self) -> dict[str, float | int | None]:
        return {"median": self.value, "low": self.low, "high": self.high, "n": self.n}


def ends(reading: Reading) -> dict[str, float | int | None]:
    return {"value": reading.value, "low": reading.low, "high": reading.high, "n": reading.n}


def finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: None in their place."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
