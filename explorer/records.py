"""What was found out, as values: every number carries its unit and how it was obtained. Knows no torch and no HTML."""

import math
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from explorer.recipe import Recipe

STOPPED = "Stopped."  # why a text ended when somebody asked for it

How = Literal["measured", "calculated", "estimated", "simulated"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One number: value, unit, how it was obtained, its spread (10th to 90th percentile, or a 95 % interval) and n."""

    value: float
    unit: str
    how: How
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @classmethod
    def timing(cls, samples: list[float], unit: str = "ms") -> "Reading":
        """Median with 10th and 90th percentile of at least one sample."""
        ordered = sorted(samples)
        last = len(ordered) - 1
        low, high = ordered[round(0.1 * last)], ordered[round(0.9 * last)]
        return cls(value=median(ordered), unit=unit, how="measured", low=low, high=high, n=len(ordered))

    def to_dict(self) -> dict[str, float | int | None]:
        return {"median": self.value, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a model costs to keep. `parts` are file bytes by part; the notes say why a saving is not there."""

    file_bytes: Reading
    parameters: Reading
    compression_ratio: Reading
    predicted_bytes: Reading
    resident_bytes: Reading | None = None
    parts: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Prefill (time to the first token) and decode (time per further token) apart, and the kernels that ran."""

    prefill_ms: Reading
    ms_per_token: Reading
    tokens_per_second: Reading
    kernel: str
    loop: str  # whose code went from token to token: "own step" or "transformers"
    prompt_tokens: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Paired comparison with the original on identical tokens; KL in nats, original to compressed."""

    perplexity: Reading
    perplexity_original: Reading
    kl: Reading
    top1_agreement: Reading
    tokens: int
    broken_positions: int = 0


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Floating-point operations for one further token (2 × multiply-accumulate); useful leaves out zeros."""

    flops_per_token: Reading
    useful_flops_per_token: Reading


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Everything known about one recipe; parts that were not measured yet are None."""

    recipe: Recipe
    model: str
    size: Footprint
    cost: Cost
    speed: Speed | None = None
    quality: Quality | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The record that `measure --json` prints."""
        size, speed, quality = self.size, self.speed, self.quality
        record = {
            "recipe": self.recipe.to_dict(),
            "model": self.model,
            "size": {
                "file_bytes": int(size.file_bytes.value),
                "resident_bytes": int(size.resident_bytes.value) if size.resident_bytes else None,
                "parameters": int(size.parameters.value),
                "compression_ratio": size.compression_ratio.value,
                "predicted_bytes": int(size.predicted_bytes.value),
                "parts": size.parts,
                "notes": list(size.notes),
            },
            "speed": speed
            and {
                "prefill_ms": speed.prefill_ms.to_dict(),
                "ms_per_token": speed.ms_per_token.to_dict(),
                "tokens_per_second": speed.tokens_per_second.to_dict(),
                "kernel": speed.kernel,
                "loop": speed.loop,
                "prompt_tokens": speed.prompt_tokens,
                "threads": speed.threads,
            },
            "quality": quality
            and {
                "perplexity": quality.perplexity.value,
                "perplexity_original": quality.perplexity_original.value,
                "kl": quality.kl.value,
                "kl_low": quality.kl.low,
                "kl_high": quality.kl.high,
                "top1_agreement": quality.top1_agreement.value,
                "tokens": quality.tokens,
                "broken_positions": quality.broken_positions,
            },
            "cost": {
                "flops_per_token": int(self.cost.flops_per_token.value),
                "useful_flops_per_token": int(self.cost.useful_flops_per_token.value),
            },
            "seconds": self.seconds,
        }
        return {name: _finite(value) for name, value in record.items()}


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: None in their place."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
            name: _finite(value) for name, value in readings.items()
        }


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One step of a text that is being written: the whole text so far, and how long this step took."""

    text: str
    token: int
    tokens: int
    ms: float
    stopped: str = ""  # "", or why it ended, in words
