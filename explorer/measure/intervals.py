"""95 % intervals of figures over tokens, which are alike within a passage: passages are the unit that was drawn.

Linearized cluster-robust standard errors with the CR2 correction (Bell and McCaffrey, Survey Methodology 28(2), 2002)
and t quantiles at the effective number of blocks, since a thousand tokens are four to eight passages of unequal length
and the percentile bootstrap is too narrow with so few. Coverage is measured by `bench_numbers.coverage`.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from explorer.values.reading import How, Reading

Values = NDArray[np.float32] | NDArray[np.float64] | NDArray[np.bool_]
ENOUGH, OF_ONE = 8, 4  # blocks wanted, and at most so many from a single passage, which cannot know how others differ
SHORTEST = 16  # tokens of a block: further apart KL is hardly alike
_DEGREES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 30, 60, 120, 1e9)
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.228, 2.131, 2.086, 2.042, 2.000, 1.980, 1.960)


class Blocks:
    """Passages of these lengths in tokens, cut into equal pieces where there would be fewer than about eight blocks.

    All values are (tokens,), passage after passage. A figure that a broken token (∞) reaches is not a number.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.tokens = sum(lengths)
        longest = max(SHORTEST, self.tokens // (ENOUGH if len(lengths) > 1 else OF_ONE))
        sizes: list[int] = []
        for length in filter(None, lengths):
            pieces = -(-length // longest) if length > 1.5 * longest else 1
            sizes += [len(part) for part in np.array_split(np.empty(length, np.bool_), pieces)]
        self._sizes = np.array(sizes, dtype=float)
        self._starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int) if sizes else np.zeros(0, int)
        self._share = self._sizes / max(self.tokens, 1)
        effective = 1 / float((self._share**2).sum()) if sizes else 0.0
        self.t = t_quantile(effective - 1) if len(sizes) > 1 else None

    def mean(self, values: Values, unit: str, how: How = "measured", positive: bool = False) -> Reading:
        """Mean, its standard error and interval; that of `positive` figures is symmetric in the logarithm, which fits
        the long upper tail of KL."""
        mean, error = self._error(values)
        if error is None or self.t is None:
            return Reading(value=mean, unit=unit, how=how, n=self.tokens)
        reach = self.t * error
        low, high = mean - reach, mean + reach
        if positive and mean > 0:
            stretch = math.exp(min(reach / mean, 700))
            low, high = mean / stretch, mean * stretch
        return Reading(value=mean, unit=unit, how=how, low=low, high=high, se=error, n=self.tokens)

    def share(self, hits: NDArray[np.bool_], certain: bool = False) -> Reading:
        """Share of tokens, with Wilson's interval at the effective number of tokens (Korn and Graubard, 1998): it has a
        width even where all agree, unless that is `certain`."""
        share, error = self._error(hits)
        if error is None or self.t is None or certain:
            low = high = share if certain else None
            return Reading(value=share, unit="share", how="measured", low=low, high=high, se=error, n=self.tokens)
        spread = share * (1 - share)
        effective = min(self.tokens, max(spread / error**2, 1.0)) if error else float(self.tokens)
        low, high = wilson(share, effective, self.t)
        return Reading(value=share, unit="share", how="measured", low=low, high=high, se=error, n=self.tokens)

    def quantile(self, values: Values, share: float, unit: str) -> Reading:
        """Exact quantile of the tokens; interval by Woodruff (1952), with no upper end where the tokens end first."""
        ordered, last = np.sort(values), self.tokens - 1
        below, above = (
            float(ordered[end(share * last)]) if self.tokens else math.nan for end in (math.floor, math.ceil)
        )
        value = below if below == above else below + (share * last) % 1 * (above - below)
        value = _finite(value)
        if self.t is None or math.isnan(value):
            return Reading(value=value, unit=unit, how="measured", n=self.tokens)
        _, error = self._error(values <= value)
        reach = self.t * (error or math.sqrt(share * (1 - share) / self.tokens))
        low = float(ordered[math.floor(max(share - reach, 0) * last)])
        high = float(ordered[math.ceil((share + reach) * last)]) if share + reach < 1 else None
        high = None if high is None or math.isinf(high) else high
        return Reading(value=value, unit=unit, how="measured", low=low, high=high, n=self.tokens)

    def _error(self, values: Values) -> tuple[float, float | None]:
        """Mean and its standard error, None where there is but one block or no number."""
        if not self.tokens:
            return math.nan, None
        sums = np.add.reduceat(values.astype(np.float64), self._starts)
        mean = _finite(float(sums.sum()) / self.tokens)
        if math.isnan(mean) or len(sums) < 2:
            return mean, None
        off = (sums - mean * self._sizes) / np.sqrt(1 - self._share)
        off[np.abs(off) < 1e-12 * np.abs(sums).max()] = 0.0  # equal blocks differ by nothing
        return mean, math.sqrt(float((off**2).sum())) / self.tokens


def paired_ratio(before: Sequence[float], after: Sequence[float], besides: float = 0.0) -> Reading:
    """before / after of positive figures found in pairs: geometric mean, t interval on the logarithms. `besides`: a
    standard error, as a share, that all pairs have in common and their spread cannot show."""
    logs = np.log(np.asarray(before, float)) - np.log(np.asarray(after, float))
    mean, n = float(logs.mean()), len(logs)
    if n < 2:
        return Reading(value=math.exp(mean), unit="×", how="measured", n=n)
    error = math.hypot(float(logs.std(ddof=1)) / math.sqrt(n), besides)
    reach = t_quantile(n - 1) * error
    low, high = math.exp(max(mean - reach, -700)), math.exp(min(mean + reach, 700))
    return Reading(value=math.exp(mean), unit="×", how="measured", low=low, high=high, se=error, n=n)


def paired_share(lost: int, gained: int, n: int, certain: bool = False) -> Reading:
    """(gained - lost) / n of n pairs, with the interval of Agresti and Min (Statistics in Medicine 24, 2005): half a
    pair more in each of the four cells, so that it has a width even where nothing flipped, unless that is `certain`."""
    value = (gained - lost) / n
    if certain:
        return Reading(value=value, unit="share", how="measured", low=value, high=value, n=n)
    middle = (gained - lost) / (n + 2)
    reach = 1.96 * math.sqrt((lost + gained + 1) / (n + 2) - middle**2) / math.sqrt(n + 2)
    low, high = max(middle - reach, -1.0), min(middle + reach, 1.0)
    return Reading(value=value, unit="share", how="measured", low=low, high=high, n=n)


def wilson(share: float, n: float, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share of n independent draws (Wilson, JASA 22, 1927)."""
    center = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + (z / n) ** 2 / 4)
    scale = 1 + z * z / n
    return min(max((center - reach) / scale, 0.0), share), max(min((center + reach) / scale, 1.0), share)


def t_quantile(degrees: float) -> float:
    """97.5 % quantile of Student's t; degrees of freedom need not be whole, and count as 1 below."""
    inverse = [1 / each for each in reversed(_DEGREES)]
    return float(np.interp(1 / max(degrees, 1.0), inverse, list(reversed(_T))))


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan
