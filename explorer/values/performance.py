"""How fast a model runs here and why, as values. Knows no torch and no HTML; every number is a Reading."""

from dataclasses import dataclass
from typing import Any, Literal

from explorer.values.reading import BUSY, Reading, ends
from explorer.values.recipe import Recipe

Verdict = Literal["faster", "slower", "no clear difference"]
PARTS = ("embedding", "attention", "mlp", "head", "framework")


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
        ratios = {k: v and ends(v) for k, v in vars(self).items() if k.endswith("_ratio")}
        return values | ratios | {"busy": self.busy}


@dataclass(frozen=True, kw_only=True)
class Product:
    """How long one kernel takes to multiply `tokens` inputs by a matrix (rows, columns) that lies in memory, not in a
    cache."""

    kernel: str
    shape: tuple[int, int]
    tokens: int
    ms: Reading


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What multiplies: its name, how fast it reads memory (bytes per second), and its kernel table."""

    processor: str
    threads: int
    dtype: str
    bandwidth: Reading
    products: tuple[Product, ...] = ()

    def times(self) -> dict[str, float]:
        """ms that each kernel takes for one token through one matrix of every shape."""
        times: dict[str, float] = {}
        for each in self.products:
            if each.tokens == 1:
                times[each.kernel] = times.get(each.kernel, 0.0) + each.ms.value
        return times


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """What one further token must read (weights, keys and values), how long that takes at the machine's bandwidth at
    least, and the share of that limit reached (Williams, Waterman and Patterson, CACM 52(4), 2009)."""

    bytes_per_token: Reading
    floor_ms: Reading
    share: Reading


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Where the time of one further token goes, ms by `PARTS`; framework is all that is none of the products: norms,
    rotations, the cache, and the calls themselves. The parts add up to the total."""

    parts: dict[str, Reading]
    total: Reading


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Energy of one further token, and what a million of them take; `source` says where the power is from."""

    joules_per_token: Reading
    kwh_per_million: Reading
    co2_g_per_million: Reading
    source: str


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two models; parts that were not found out yet are None."""

    speed: Speed
    roofline: Roofline | None = None
    parts: Parts | None = None
    energy: Energy | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place of the speed surface: `batch` texts after `prompt_tokens` tokens each."""

    batch: int
    prompt_tokens: int
    original: Speed
    compressed: Speed


@dataclass(frozen=True, kw_only=True)
class Performance:
    """Original and compressed side by side; it grows as it is measured."""

    recipe: Recipe
    model: str
    original: Side
    compressed: Side
    machine: Machine | None = None
    surface: tuple[Cell, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it; a Reading becomes its fields."""
        found: dict[str, Any] = _plain(self)
        return found | {"recipe": self.recipe.to_dict()}


def verdict(ratio: Reading | None) -> Verdict:
    """Of a ratio original / compressed: slower or faster only where its whole interval says so."""
    if ratio is None or ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high:
        return "no clear difference"
    return "faster" if ratio.low > 1 else "slower"


def _plain(value: Any) -> Any:
    if isinstance(value, Speed):
        return value.to_dict()
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Cell):
        ratios = {"prefill": verdict(value.compressed.prefill_ratio), "decode": verdict(value.compressed.decode_ratio)}
        return {name: _plain(part) for name, part in vars(value).items()} | {"verdict": ratios}
    return {name: _plain(part) for name, part in vars(value).items()} if hasattr(value, "__dict__") else value
