"""Values to codes on the grids of ggml's block types. Each group of neighbours has a scale, and of some types a least
value. These are whole multiples of half precision numbers that a super-block of 256 shares (K-quants: Kawrakow,
llama.cpp pull request 1684, 2023), or half precision numbers of their own (the older types). Ranges are found by least
squares under the power of the inputs, codes by handing errors on (GPTQ). Knows no bytes, layers or recipes.

Shapes: weight (rows, columns), columns whole blocks; codes the same in uint8; what is of a group (rows, groups).
A weight is step · code − least, in float32 as decoders of the format take it.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.methods import secondorder

TINY, LARGEST = 2.0**-24, 65504.0  # of float16
TILE = 2**17  # weights worked on at a time, so that temporaries stay in cache


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A type of block. `span`: weights of a block; `group`: of one scale; codes are 0 … `top`.

    zero: the code that stands for 0; None where groups have a least value instead. least, most: of the whole numbers
    that multiply the block's half precision number, None where each group has a half precision number of its own.
    """

    span: int
    group: int
    top: int
    zero: int | None = None
    least: int | None = None
    most: int = 0


KINDS = {
    "Q4_0": Kind(span=32, group=32, top=15, zero=8),
    "Q4_1": Kind(span=32, group=32, top=15),
    "Q5_0": Kind(span=32, group=32, top=31, zero=16),
    "Q5_1": Kind(span=32, group=32, top=31),
    "Q8_0": Kind(span=32, group=32, top=254, zero=127),
    "Q2_K": Kind(span=256, group=16, top=3, least=0, most=15),
    "Q3_K": Kind(span=256, group=16, top=7, zero=4, least=-32, most=31),
    "Q4_K": Kind(span=256, group=32, top=15, least=0, most=63),
    "Q5_K": Kind(span=256, group=32, top=31, least=0, most=63),
    "Q6_K": Kind(span=256, group=16, top=63, zero=32, least=-128, most=127),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranges:
    """The grids of a matrix: half precision numbers of each block (rows, blocks) and their multiples of each group
    (rows, groups) int16; `low` and `lows` are of the least values, None where codes have a zero."""

    kind: Kind
    scale: Tensor
    scales: Tensor
    low: Tensor | None = None
    lows: Tensor | None = None

    @property
    def step(self) -> Tensor:
        """(rows, groups) float32."""
        return _times(self.scale, self.scales)

    @property
    def least(self) -> Tensor:
        """(rows, groups) float32: what is taken off, so that code 0 is −least."""
        if self.low is None or self.lows is None:
            return self.step * (self.kind.zero or 0)
        return _times(self.low, self.lows)

    def decode(self, codes: Tensor) -> Tensor:
        """(rows, columns) float32."""
        rows, columns = codes.shape
        grouped = codes.view(rows, -1, self.kind.group).float()
        return (grouped * self.step[..., None] - self.least[..., None]).view(rows, columns)


def _times(number: Tensor, multiples: Tensor) -> Tensor:
    each = multiples.shape[1] // number.shape[1]
    return number.float().repeat_interleave(each, 1) * multiples


def search(weight: Tensor, kind: Kind, importance: Tensor | None = None) -> Ranges:
    """The ranges with the least Σ importance · (w − q)² that were found: for some widths of each group's range the
    codes, for these the best scale and least value, then the nearest multiples of the block's numbers, tried with their
    neighbours. importance: (columns,), as a rule the mean square of each input; None counts all alike."""
    rows, columns = weight.shape
    found = []
    for part in _parts(weight):
        tile = part.float().reshape(-1, kind.group).T.contiguous()  # (group, rows · groups)
        weigh = torch.ones(1, 1, device=weight.device)
        if importance is not None:
            weigh = importance.float().view(-1, kind.group).T.repeat(1, len(part))
        weigh = weigh.clamp(min=1e-12)
        step, least = _symmetric(tile, weigh, kind) if kind.zero is not None else _affine(tile, weigh, kind)
        found.append(_stored(tile, weigh, step, least, kind, len(part)))
    whole = [None if parts[0] is None else torch.cat(parts) for parts in zip(*found, strict=True)]  # type: ignore[arg-type]
    return Ranges(kind=kind, scale=whole[0], scales=whole[1], low=whole[2], lows=whole[3])  # type: ignore[arg-type]


def _parts(weight: Tensor) -> Iterator[Tensor]:
    """As many rows at a time as stay in cache."""
    size = max(1, TILE // weight.shape[1])
    for start in range(0, len(weight), size):
        yield weight[start : start + size]


def _symmetric(tile: Tensor, weigh: Tensor, kind: Kind) -> tuple[Tensor, Tensor | None]:
    """Step of each group, negative where the largest weight is positive: the codes reach further below zero."""
    zero, top = kind.zero or 0, kind.top
    place = tile.abs().argmax(0, keepdim=True)
    peak = tile.gather(0, place)[0]
    best = torch.full_like(peak, torch.inf)
    chosen = torch.zeros_like(peak)
    for more in _widths(top):
        step = -peak / (zero + more)
        near = (tile / _safe(step)).round_().clamp_(-zero, top - zero)
        weighed = near * weigh
        fitted = (weighed * tile).sum(0) / (weighed * near).sum(0).clamp(min=1e-30)
        error = _error(tile, weigh, fitted, None, kind)
        better = error < best
        best, chosen = torch.where(better, error, best), torch.where(better, fitted, chosen)
    return chosen, None


def _affine(tile: Tensor, weigh: Tensor, kind: Kind) -> tuple[Tensor, Tensor | None]:
    """Step and least value of each group; the least is not above 0 where its multiples cannot be negative."""
    top, bounded = kind.top, kind.least is not None
    low, high = tile.amin(0), tile.amax(0)
    if bounded:
        low, high = low.clamp(max=0), high.clamp(min=0)
    weigh = weigh.expand(tile.shape)
    total, weighted = weigh.sum(0), weigh * tile
    mean, best = weighted.sum(0), torch.full_like(low, torch.inf)
    chosen, chosen_least = torch.zeros_like(low), -low
    for more in _widths(top):
        step = (high - low) / (top + 2 * more)
        near = ((tile - low) / _safe(step)).round_().clamp_(0, top)
        weighed = weigh * near
        first, second, cross = weighed.sum(0), (weighed * near).sum(0), (weighted * near).sum(0)
        size = total * second - first * first
        fitted = torch.where(size > 0, (total * cross - mean * first) / size.clamp(min=1e-30), step)
        least = (fitted * first - mean) / total
        if bounded:
            over = least < 0
            fitted = torch.where(over, cross / second.clamp(min=1e-30), fitted)
            least = least.clamp(min=0)
        fitted = fitted.clamp(min=0)
        error = _error(tile, weigh, fitted, least, kind)
        better = error < best
        best, chosen = torch.where(better, error, best), torch.where(better, fitted, chosen)
        chosen_least = torch.where(better, least, chosen_least)
    return chosen, chosen_least


def _widths(top: int) -> Sequence[float]:
    """By how many codes the range that is tried is wider or narrower than the weights, on one side."""
    most = {3: 0.5, 7: 1.2, 15: 1.5, 31: 2.0, 63: 2.0}.get(top, 2.0)
    return [most * (at / 4 - 1 / 3) for at in range(-2 if top > 3 else -1, 9 if top < 64 else 5)]


def _safe(step: Tensor) -> Tensor:
    return torch.where(step == 0, torch.inf, step)


def _error(tile: Tensor, weigh: Tensor, step: Tensor, least: Tensor | None, kind: Kind) -> Tensor:
    """Σ weigh · (w − q)² of each group with the nearest codes."""
    shift = step * (kind.zero or 0) if least is None else least
    value = ((tile + shift) / _safe(step)).round_().clamp_(0, kind.top).mul_(step).sub_(shift)
    return value.sub_(tile).square_().mul_(weigh).sum(0)


Found = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


def _stored(tile: Tensor, weigh: Tensor, step: Tensor, least: Tensor | None, kind: Kind, rows: int) -> Found:
    """As the blocks hold it: half precision numbers and whole multiples."""
    if kind.least is None:
        scale, low = _half(step), None if least is None else _half(least)
        ones = torch.ones(rows, len(step) // rows, dtype=torch.int16, device=step.device)
        return scale.view(rows, -1), ones, None if low is None else low.view(rows, -1), None if low is None else ones
    each = kind.span // kind.group
    grouped = step.view(-1, each)
    place = grouped.abs().argmax(1, keepdim=True)
    reach = kind.most if kind.least == 0 else kind.least  # the largest of all, with its sign, at the longer end
    scale = _half(grouped.gather(1, place)[:, 0] / reach)
    unit = scale.float().repeat_interleave(each)
    scales = (step / _safe(unit)).round_().clamp_(kind.least, kind.most)
    low = lows = low_unit = None
    if least is not None:
        low = _half(least.view(-1, each).amax(1) / kind.most)
        low_unit = low.float().repeat_interleave(each)
        lows = (least / _safe(low_unit)).round_().clamp_(0, kind.most)
    scales, lows = _settled(tile, weigh, (unit, scales), (low_unit, lows), kind)
    parts = (scales.to(torch.int16).view(rows, -1), None if lows is None else lows.to(torch.int16).view(rows, -1))
    return scale.view(rows, -1), parts[0], None if low is None else low.view(rows, -1), parts[1]


def _settled(
    tile: Tensor, weigh: Tensor, first: tuple[Tensor, Tensor], second: tuple[Tensor | None, Tensor | None], kind: Kind
) -> tuple[Tensor, Tensor | None]:
    """Of each group's multiples and their neighbours those with the least error."""
    (unit, scales), (low_unit, lows) = first, second
    assert kind.least is not None
    chosen, chosen_low, best = scales, lows, torch.full_like(unit, torch.inf)
    for by in (0, -1, 1):
        tried = (scales + by).clamp(kind.least, kind.most)
        for low_by in (0,) if lows is None else (0, -1, 1):
            low = None if lows is None else (lows + low_by).clamp(0, kind.most)
            least = None if low is None or low_unit is None else low * low_unit
            error = _error(tile, weigh, tried * unit, least, kind)
            better = error < best
            best, chosen = torch.where(better, error, best), torch.where(better, tried, chosen)
            chosen_low = None if low is None or chosen_low is None else torch.where(better, low, chosen_low)
    return chosen, chosen_low


def _half(number: Tensor) -> Tensor:
    return number.clamp(-LARGEST, LARGEST).to(torch.float16)


def nearest(weight: Tensor, ranges: Ranges) -> Tensor:
    """Codes of the nearest points."""
    rows, columns = weight.shape
    grouped = weight.float().view(rows, -1, ranges.kind.group)
    found = (grouped + ranges.least[..., None]) / _safe(ranges.step)[..., None]
    return found.round_().clamp_(0, ranges.kind.top).to(torch.uint8).view(rows, columns)


def rounded(
    weights: Tensor, grams: Sequence[Tensor], kind: Kind
) -> Generator[float, None, list[tuple[Tensor, Ranges]]]:
    """Codes and ranges of (batch, rows, columns) weights with these H, each (columns, columns): ranges searched under
    the diagonal of H, then GPTQ, the columns with the strongest inputs first. Yields the share done."""
    found = [search(weight, kind, gram.diagonal()) for weight, gram in zip(weights, grams, strict=True)]
    orders = [gram.diagonal().argsort(descending=True, stable=True) for gram in grams]
    factors = [
        secondorder.inverse_factor(gram[order][:, order][None])[0] for gram, order in zip(grams, orders, strict=True)
    ]
    steps, leasts = (
        torch.stack([part.repeat_interleave(kind.group, 1).T[order] for part, order in zip(parts, orders, strict=True)])
        for parts in ([ranges.step for ranges in found], [ranges.least for ranges in found])
    )
    places = torch.stack(orders)[:, None].expand_as(weights)
    loop = secondorder.round_between(weights.gather(2, places), torch.stack(factors), steps, leasts, kind.top)
    codes = yield from loop
    return list(zip(torch.empty_like(codes).scatter_(2, places, codes), found, strict=True))
