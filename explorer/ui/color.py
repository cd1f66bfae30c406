"""Distances as colours that the colour-blind tell apart; lightness alone tells too."""

import math

SCALE = (
    (0.003, (0, 114, 178)),
    (0.1, (230, 194, 41)),
    (1.0, (194, 78, 0)),
    (4.0, (90, 20, 20)),
)  # KL → RGB


def color(kl: float) -> str:
    """Blue is near the original, yellow shows, orange breaks, dark is gone (or no number): lightness tells without
    colour."""
    ends = [(math.log(level), color) for level, color in SCALE]
    at = min(max(math.log(max(kl, 1e-9)), ends[0][0]), ends[-1][0]) if math.isfinite(kl) else ends[-1][0]
    high = next(i for i, (level, _) in enumerate(ends) if at <= level)
    (start, one), (end, other) = ends[max(high - 1, 0)], ends[high]
    share = (at - start) / (end - start) if end > start else 0.0
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(one, other, strict=True))
