"""How far a compressed model is from its original, as values."""

from dataclasses import dataclass
from typing import Any, Literal

from explorer.values.reading import Reading, ends


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
        return {name: ends(getattr(self, name)) for name in ("kl", "top1_agreement", "lost", "gained")}


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


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """What each technique of a combined setting does by itself, KL in nats on the same tokens, and what is left of the
    whole when those are taken away: above 0 the techniques hurt each other, below 0 they overlap."""

    alone: dict[str, Reading]
    together: Reading
    interaction: Reading
