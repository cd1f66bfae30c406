"""What was found out, as values: every number carries its unit and how it was obtained. Knows no torch and no HTML."""

import math
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from explorer.values.recipe import Recipe

STOPPED = "Stopped."  # why a text ended when somebody asked for it

BUSY = 0.25  # a spread above this share of the median: something else was running

How = Literal["measured", "calculated", "estimated", "simulated"]


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
    """Prefill (time to the first token) and decode (time per further token of each text) apart, for `batch` texts at
    once, and what ran where. The ratios are the original's time over this one's, with their 95 % intervals."""

    prefill_ms: Reading
    ms_per_token: Reading
    tokens_per_second: Reading
    kernel: str
    loop: str  # whose code went from token to token: "own step" or "transformers"
    prompt_tokens: int
    threads: int
    batch: int = 1
    dtype: str = ""
    processor: str = ""
    prefill_ratio: Reading | None = None
    decode_ratio: Reading | None = None

    @property
    def busy(self) -> bool:
        """Whether the machine did something else meanwhile: the times are further apart than 25 % of their median."""
        return max(self.prefill_ms.spread, self.ms_per_token.spread) > BUSY

    def to_dict(self) -> dict[str, Any]:
        """Readings as median and ends; everything else as it is."""
        values = {k: v.to_dict() if isinstance(v, Reading) else v for k, v in vars(self).items()}
        ratios = {k: v and _ends(v) for k, v in vars(self).items() if k.endswith("_ratio")}
        return values | ratios | {"busy": self.busy}


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One kind of text: KL, top-1 agreement, and the shares of positions where only the original's top token was right
    (`lost`) or only the compressed model's (`gained`)."""

    kind: str
    kl: Reading
    top1_agreement: Reading
    lost: Reading
    gained: Reading

    def to_dict(self) -> dict[str, Any]:
        return {name: _ends(getattr(self, name)) for name in ("kl", "top1_agreement", "lost", "gained")}


@dataclass(frozen=True, kw_only=True)
class Guess:
    """One possible next token, and its probability."""

    word: str
    share: Reading


@dataclass(frozen=True, kw_only=True)
class Place:
    """One token of the original's text: the KL there (nats), and what either model would say, likeliest first."""

    word: str
    kl: Reading
    original: tuple[Guess, ...]
    compressed: tuple[Guess, ...]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The original's text, token by token, as a compressed model reads it; `parts` is the first place where the two
    would say different things, `again` what the original writes when it is asked once more."""

    recipe: Recipe
    places: tuple[Place, ...]
    parts: int | None
    text: str
    again: str


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


Verdict = Literal["identical", "not distinguishable", "distinguishable", "broken", "no noise floor"]


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Paired comparison with the original on identical tokens, by the names of llama.cpp's perplexity tool.

    KL in nats, original to compressed; ln_ppl_ratio is ln(PPL(Q) / PPL(base)); delta_p is what the probability of the
    correct token gained. Where the original is known on more tokens than the compressed model, both perplexities are
    those of that longer text, the compressed one's estimated from the ratio; each says its own n.
    """

    perplexity: Reading
    perplexity_original: Reading
    ln_ppl_ratio: Reading
    ppl_ratio: Reading
    ppl_correlation: Reading
    kl: Reading
    kl_median: Reading
    kl_90: Reading
    kl_99: Reading
    kl_99_9: Reading
    kl_max: Reading
    top1_agreement: Reading
    delta_p_mean: Reading
    delta_p_rms: Reading
    tokens: int
    broken_positions: int = 0
    noise_floor: Reading | None = None
    by_kind: tuple[Slice, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Whether the lower end of the KL's interval is above what rounding noise does to the original."""
        if self.broken_positions:
            return "broken"
        if self.kl_max.value == 0:
            return "identical"
        if self.noise_floor is None:
            return "no noise floor"
        lowest = self.kl.low if self.kl.low is not None else 0.0
        return "distinguishable" if lowest > self.noise_floor.value else "not distinguishable"

    def to_dict(self) -> dict[str, Any]:
        """All figures by name; s.e. and 95 % interval of those that a reader compares."""
        values = {name: value.value for name, value in vars(self).items() if isinstance(value, Reading)}
        return values | {
            "kl_low": self.kl.low,
            "kl_high": self.kl.high,
            "kl_se": self.kl.se,
            "ln_ppl_ratio_se": self.ln_ppl_ratio.se,
            "top1_se": self.top1_agreement.se,
            "tokens": self.tokens,
            "tokens_original": self.perplexity_original.n,
            "broken_positions": self.broken_positions,
            "noise_floor": self.noise_floor.value if self.noise_floor else None,
            "verdict": self.verdict,
            "by_kind": {part.kind: part.to_dict() for part in self.by_kind},
        }


Reason = Literal["", "repeats", "stops early", "not a number"]


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What a model wrote after one prompt; `collapsed` says how it broke: "" where it did not."""

    prompt: str
    text: str
    tokens: int
    repeated: Reading
    collapsed: Reason


@dataclass(frozen=True, kw_only=True)
class Collapse:
    """Over many prompts: shares that collapsed and that stopped early, mean share of repeated 4-grams, all texts."""

    collapsed: Reading
    early: Reading
    repeated: Reading
    texts: tuple[Writing, ...]


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """File bytes by part, which add up to `file_bytes`; beside them what no file here reaches: the entropy of masks and
    codes, and what zip makes of the file. `notes` say why a saving is not there."""

    file_bytes: Reading
    parts: dict[str, Reading]
    entropy_bytes: Reading
    zip_bytes: Reading | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """What each technique of a combined setting does by itself, KL in nats on the same tokens, and what is left of the
    whole when those are taken away: above 0 the techniques hurt each other, below 0 they overlap."""

    alone: dict[str, Reading]
    together: Reading
    interaction: Reading


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
            "speed": speed and speed.to_dict(),
            "quality": quality and quality.to_dict(),
            "cost": {
                "flops_per_token": int(self.cost.flops_per_token.value),
                "useful_flops_per_token": int(self.cost.useful_flops_per_token.value),
            },
            "seconds": self.seconds,
        }
        return {name: _finite(value) for name, value in record.items()}


def _ends(reading: Reading) -> dict[str, float | int | None]:
    return {"value": reading.value, "low": reading.low, "high": reading.high, "n": reading.n}


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
