"""What became of single matrices, as values."""

from dataclasses import dataclass
from typing import Any

from explorer.values.reading import Reading, finite


@dataclass(frozen=True, kw_only=True)
class LayerReading:
    """One compressed matrix: what it is, what it costs, the error of its outputs relative to them, and the KL of the
    model in which it alone is compressed."""

    name: str
    kind: str
    shape: tuple[int, int]
    rank: int | None
    bits: int
    zeros: Reading
    kept: Reading
    file_bytes: Reading
    output_error: Reading
    kl: Reading

    def to_dict(self) -> dict[str, Any]:
        readings = {k: v.value for k, v in vars(self).items() if isinstance(v, Reading)}
        return {"name": self.name, "kind": self.kind, "shape": self.shape, "rank": self.rank, "bits": self.bits} | {
            name: finite(value) for name, value in readings.items()
        }


@dataclass(frozen=True, kw_only=True)
class Inside:
    """One matrix: counts of its weights in equal bins from −reach to reach, before and after; the levels that rounding
    leaves to one group; its singular values at some ranks, of the largest; and the rank that a factorization kept."""

    name: str
    reach: float
    before: tuple[int, ...]
    after: tuple[int, ...]
    levels: tuple[float, ...]
    ranks: tuple[int, ...]
    spectrum: tuple[float, ...]
    cut: int | None
