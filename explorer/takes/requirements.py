"""Large or small: what it takes to keep, run and train a model, by arithmetic on its dimensions. Nothing is measured:
times are the roofline's lower bounds (Williams, Waterman, Patterson, CACM 2009), which real programs do not reach."""

import math
import tomllib
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any

from explorer import assets
from explorer.takes.architecture import Architecture, active_parameters, parameters
from explorer.values.reading import Reading

BITS = (16, 8, 4, 3, 2)
GROUP = 64  # weights that share one 16-bit scale and one zero below 8 bits, as in this project's own files
USABLE = 0.9  # of a GPU's memory; the rest is the driver's and the program's
ROW_BYTES = 3  # at 8 bits: a 16-bit scale and a zero of 8
HOURS_PER_MONTH = 730
SERVER = 8  # GPUs in one computer; more are offered only where nothing less holds the model
MAX_CONTEXT, MAX_BATCH, MAX_PRICE = 10_000_000, 4096, 1e9


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """Data-sheet figures: bytes, bytes per second, dense 16-bit FLOP per second, watts, US dollars per hour."""

    name: str
    memory: float
    bandwidth: float
    flops: float
    watts: float
    usd_per_hour: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What a visitor may change; the sources of the defaults are in assets/prices.toml (`price_sources`)."""

    electricity_usd_per_kwh: float
    grid_g_per_kwh: float
    pue: float
    gpu_usd_per_hour: float  # 0: the table's
    storage_usd_per_gb_month: float
    engineer_usd_per_hour: float
    engineer_hours_per_gpu_month: float
    million_tokens_per_month: float
    training_utilization: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (isinstance(value, int | float) and 0 <= value <= MAX_PRICE):
                raise ValueError(f"{field.name} must be a number from 0 to {MAX_PRICE:.0e}.")
        if not 0 < self.training_utilization <= 1:
            raise ValueError("training_utilization must be above 0 and at most 1.")
        if self.pue < 1:
            raise ValueError("pue must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class Costs:
    """US dollars of a month. Compute and infrastructure are rent: for busy hours without their electricity, and for
    the hours in which the GPUs are only kept ready. Energy is the busy hours' electricity, so that the five add up."""

    compute: Reading
    storage: Reading
    maintenance: Reading
    infrastructure: Reading
    energy: Reading

    @property
    def total(self) -> Reading:
        return _of(sum(getattr(self, field.name).value for field in fields(self)), "USD")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How many of one GPU hold the model with its cache, and what a token and a month then take at the batch and the
    traffic that were asked; `replicas` is how often the model must be there for that traffic. `usd_per_million` is the
    rent of the hours in use, compute and energy of `costs`; `all_usd_per_million` is all five."""

    gpu: Gpu
    count: Reading
    replicas: Reading
    ms_per_token: Reading
    usd_per_million: Reading
    all_usd_per_million: Reading
    kwh_per_million: Reading
    costs: Costs


@dataclass(frozen=True, kw_only=True)
class Training:
    """6·N·D (Kaplan et al., arXiv 2001.08361) on one kind of GPU at a share of its peak; None where D is unknown."""

    tokens: Reading
    flop: Reading
    gpu_hours: Reading
    kwh: Reading
    co2_kg: Reading
    usd: Reading


@dataclass(frozen=True, kw_only=True)
class Takes:
    """Everything calculated for one model at one context, batch and bit width. `weights` is bytes by bits."""

    name: str
    architecture: Architecture
    context: int
    batch: int
    bits: int
    parameters: Reading
    active_parameters: Reading
    weights: dict[int, Reading]
    cache_bytes: Reading
    activation_bytes: Reading
    flops_per_token: Reading
    prefill_flops: Reading
    fits: tuple[Fit, ...]
    best: Fit
    ms_per_token: Reading  # one text alone
    prefill_ms: Reading
    tokens_per_second: Reading
    co2_g_per_million: Reading
    training: Training | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values; a Reading becomes its value."""
        plain: dict[str, Any] = _plain(self)
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Reading):
        return value.value
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


@cache
def gpus() -> dict[str, Gpu]:
    """The table of GPUs by name, smallest memory first."""
    found = [Gpu(name=name, **values) for name, values in _asset()["gpus"].items()]
    return {gpu.name: gpu for gpu in sorted(found, key=lambda gpu: (gpu.memory, gpu.usd_per_hour))}


@cache
def default_prices() -> Prices:
    return Prices(**{name: float(each["value"]) for name, each in _asset()["prices"].items()})


@cache
def price_sources() -> dict[str, str]:
    """Where each default comes from, by the name in `Prices`."""
    return {name: str(each["source"]) for name, each in _asset()["prices"].items()}


def weight_bytes(architecture: Architecture, bits: int) -> float:
    """Bytes of a file as the page makes it: matrices, word table and head at `bits` with their scales and zeros (8 bits
    have one of each a row), everything else at 16 bits."""
    own = architecture
    rounded = own.matrices - own.routers + own.table + own.head
    return rounded * bits_per_weight(bits) / 8 + own.rows * ROW_BYTES * (bits == 8) + 2 * own.full_width


def bits_per_weight(bits: int) -> float:
    """Below 8 bits with a 16-bit scale and a zero of `bits` for each group of 64."""
    return bits if bits >= 8 else bits + (16 + bits) / GROUP


def cache_bytes(architecture: Architecture, context: int, batch: int) -> int:
    """Bytes of keys and values at 16 bits: 2 · 2 · kv heads · head size for each token a layer keeps."""
    return 4 * architecture.kv_width * architecture.attended(context) * batch


def activation_bytes(architecture: Architecture, context: int, batch: int) -> int:
    """Bytes at the widest point of a prefill, layer by layer, scores never stored (FlashAttention): the residual
    stream, its norm and one MLP's inner width at 16 bits, and the last tokens' logits at 32."""
    inner = architecture.intermediate * (architecture.active_experts or 1) * (2 if architecture.gated else 1)
    widest = max(inner, architecture.query_width + 2 * architecture.kv_width)
    return batch * (context * 2 * (2 * architecture.hidden + widest) + 4 * architecture.vocabulary)


def flops_per_token(architecture: Architecture, context: int) -> int:
    """2 for each weight that a token is multiplied with, head included, and attention to `context` tokens."""
    weights = architecture.active_matrices + architecture.table
    return 2 * weights + 4 * architecture.query_width * architecture.attended(context)


def prefill_flops(architecture: Architecture, context: int, batch: int) -> int:
    """Reading `context` tokens: the head once, and attention to what came before (half of all pairs)."""
    attention = 2 * architecture.query_width * architecture.attended(context) * context
    return batch * (2 * architecture.active_matrices * context + 2 * architecture.table + attention)


def decode_bytes(architecture: Architecture, context: int, batch: int, bits: int) -> float:
    """Bytes read for one step of a batch: the matrices met, the head, norms, and the cache. The table is looked up."""
    weights = (architecture.matrices_met(batch) + architecture.table) * bits_per_weight(bits) / 8
    return weights + 2 * architecture.vectors + cache_bytes(architecture, context, batch)


def what_it_takes(
    name: str,
    architecture: Architecture,
    *,
    tokens: int | None = None,
    context: int | None = None,
    batch: int = 1,
    bits: int = 16,
    gpu: str = "",
    prices: Prices | None = None,
) -> Takes:
    """All of it. `gpu` is a name of the table, or "" for the one whose month costs least; `tokens`: seen in training.
    ValueError where a number is out of bounds."""
    context = context or min(architecture.context, 4096)
    if not 1 <= context <= MAX_CONTEXT or not 1 <= batch <= MAX_BATCH:
        raise ValueError(f"context must be from 1 to {MAX_CONTEXT:,}, batch from 1 to {MAX_BATCH:,}.")
    if bits not in BITS:
        raise ValueError(f"bits must be one of {', '.join(map(str, BITS))}.")
    if gpu and gpu not in gpus():
        raise ValueError(f"gpu must be one of {', '.join(gpus())}.")
    prices = prices or default_prices()
    own, rent = architecture, prices.gpu_usd_per_hour
    table = [replace(each, usd_per_hour=rent or each.usd_per_hour) for each in gpus().values()]
    need = weight_bytes(own, bits) + cache_bytes(own, context, batch) + activation_bytes(own, context, batch)
    fits = tuple(_fit(own, each, need, context, batch, bits, prices) for each in table)
    best = min(fits, key=lambda fit: (fit.gpu.name != gpu, fit.count.value > SERVER, fit.costs.total.value))
    count = int(best.count.value)
    reading = weight_bytes(own, bits) / (count * best.gpu.bandwidth)
    prefill = max(reading, prefill_flops(own, context, batch) / (count * best.gpu.flops))
    return Takes(
        name=name,
        architecture=own,
        context=context,
        batch=batch,
        bits=bits,
        parameters=_of(parameters(own), "weights"),
        active_parameters=_of(active_parameters(own), "weights"),
        weights={each: _of(weight_bytes(own, each), "bytes") for each in BITS},
        cache_bytes=_of(cache_bytes(own, context, batch), "bytes"),
        activation_bytes=_of(activation_bytes(own, context, batch), "bytes"),
        flops_per_token=_of(flops_per_token(own, context), "FLOP"),
        prefill_flops=_of(prefill_flops(own, context, batch), "FLOP"),
        fits=fits,
        best=best,
        ms_per_token=_of(_ms_per_token(own, best.gpu, count, context, 1, bits), "ms"),
        prefill_ms=_of(1000 * prefill, "ms"),
        tokens_per_second=_of(1000 * batch / best.ms_per_token.value, "tokens/s"),
        co2_g_per_million=_of(best.kwh_per_million.value * prices.grid_g_per_kwh, "g"),
        training=_training(own, tokens, best.gpu, prices) if tokens else None,
    )


def _fit(own: Architecture, gpu: Gpu, need: float, context: int, batch: int, bits: int, prices: Prices) -> Fit:
    count = max(1, math.ceil(need / (USABLE * gpu.memory)))
    ms = _ms_per_token(own, gpu, count, context, batch, bits)
    seconds = 1e6 * ms / 1000 / batch  # for a million tokens, every place of the batch in use
    kwh = _kwh(seconds, gpu, count, prices)
    traffic = prices.million_tokens_per_month
    hours = traffic * seconds / 3600
    replicas = max(1, math.ceil(hours / HOURS_PER_MONTH))
    costs = _costs(own, bits, gpu, count * replicas, hours * count, kwh * traffic, prices)
    return Fit(
        gpu=gpu,
        count=_of(count, "GPUs"),
        replicas=_of(replicas, "replicas"),
        ms_per_token=_of(ms, "ms"),
        usd_per_million=_of(count * gpu.usd_per_hour * seconds / 3600, "USD"),
        all_usd_per_million=_of(costs.total.value / traffic if traffic else math.inf, "USD"),
        kwh_per_million=_of(kwh, "kWh"),
        costs=costs,
    )


def _ms_per_token(own: Architecture, gpu: Gpu, count: int, context: int, batch: int, bits: int) -> float:
    """The slower of moving the bytes and doing the arithmetic, shared evenly among the GPUs, their talk left out."""
    moving = decode_bytes(own, context, batch, bits) / (count * gpu.bandwidth)
    counting = batch * flops_per_token(own, context) / (count * gpu.flops)
    return 1000 * max(moving, counting)


def _training(own: Architecture, tokens: int, gpu: Gpu, prices: Prices) -> Training:
    flop = 6.0 * active_parameters(own) * tokens
    hours = flop / (gpu.flops * prices.training_utilization) / 3600
    kwh = _kwh(3600 * hours, gpu, 1, prices)
    return Training(
        tokens=_of(tokens, "tokens"),
        flop=_of(flop, "FLOP"),
        gpu_hours=_of(hours, "hours"),
        kwh=_of(kwh, "kWh"),
        co2_kg=_of(kwh * prices.grid_g_per_kwh / 1000, "kg"),
        usd=_of(hours * gpu.usd_per_hour, "USD"),
    )


def _costs(own: Architecture, bits: int, gpu: Gpu, kept: int, busy_hours: float, kwh: float, prices: Prices) -> Costs:
    """`kept` GPUs are rented all month; `busy_hours` are hours of one GPU."""
    energy = kwh * prices.electricity_usd_per_kwh
    engineer = prices.engineer_hours_per_gpu_month * prices.engineer_usd_per_hour
    return Costs(
        compute=_of(max(busy_hours * gpu.usd_per_hour - energy, 0.0), "USD"),
        storage=_of(weight_bytes(own, bits) / 1e9 * prices.storage_usd_per_gb_month, "USD"),
        maintenance=_of(kept * engineer, "USD"),
        infrastructure=_of(max(kept * HOURS_PER_MONTH - busy_hours, 0.0) * gpu.usd_per_hour, "USD"),
        energy=_of(energy, "USD"),
    )


def _kwh(seconds: float, gpu: Gpu, count: int, prices: Prices) -> float:
    """Board power for the whole time, times what the building adds: an upper bound of what the GPUs draw."""
    return seconds * gpu.watts * count * prices.pue / 3.6e6


def _of(value: float, unit: str) -> Reading:
    return Reading(value=value, unit=unit, how="calculated")


@cache
def _asset() -> dict[str, Any]:
    return tomllib.loads(assets.read("prices.toml"))
