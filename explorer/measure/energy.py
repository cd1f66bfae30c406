"""Energy of decoding: the counter of the processor's package (RAPL) or of the GPU (NVML) where it can be read, else an
estimate from a constant power, which says so."""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from explorer.values.performance import Energy
from explorer.values.reading import How, Reading

POWERCAP = Path("/sys/class/powercap")
WATTS_PER_THREAD = 4.0  # what codecarbon takes for a processor that it does not know
SECONDS = 0.5  # RAPL counts in steps of about a millisecond
JOULES_PER_KWH = 3.6e6

ESTIMATED = f"estimated: {WATTS_PER_THREAD:g} W for each thread that multiplies, no counter can be read here"
RAPL = "RAPL counter of the whole processor package, all that runs on it and its idle power included"
NVML = "NVML power of the whole board, its idle power included"


def per_token(step: Callable[[], object], ms: float, tokens: int, grams_per_kwh: float, device: str = "cpu") -> Energy:
    """Energy of one of the `tokens` that every `step` gives; `ms` is how long a step takes where only that is known.

    grams_per_kwh: CO2 equivalents of the grid's electricity, as in assets/prices.toml.
    """
    joules, source, how, steps = _measured(step, device)
    if joules is None:
        joules, steps = WATTS_PER_THREAD * torch.get_num_threads() * ms / 1e3, 1
    each = joules / steps / tokens
    kwh = each * 1e6 / JOULES_PER_KWH
    return Energy(
        joules_per_token=Reading(value=each, unit="J", how=how, n=steps if how == "measured" else None),
        kwh_per_million=Reading(value=kwh, unit="kWh", how=how),
        co2_g_per_million=Reading(value=kwh * grams_per_kwh, unit="g", how="estimated"),
        source=source,
    )


def package_joules(folder: Path = POWERCAP) -> dict[str, tuple[float, float]]:
    """(joules counted, joules after which it starts anew) of each package; empty where they cannot be read."""
    found = {}
    for zone in sorted(folder.glob("intel-rapl:*")):
        if zone.name.count(":") == 1:  # cores and memory are zones within it
            try:
                counted, most = (int((zone / name).read_text()) / 1e6 for name in ("energy_uj", "max_energy_range_uj"))
            except (OSError, ValueError):
                return {}
            found[zone.name] = counted, most
    return found


def spent(before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]) -> float:
    """Joules between two readings of the counters, each of which may have started anew once."""
    return sum((after[zone][0] - counted) % most for zone, (counted, most) in before.items())


def _measured(step: Callable[[], object], device: str) -> tuple[float | None, str, How, int]:
    """(joules or None, where they are from, how, steps)."""
    if device == "cuda":
        watts, seconds, steps = _board(step)
        return (watts * seconds, NVML, "measured", steps) if watts else (None, ESTIMATED, "estimated", steps)
    before = package_joules()
    if not before:
        return None, ESTIMATED, "estimated", 1
    steps, _ = _run(step)
    return spent(before, package_joules()), RAPL, "measured", steps


def _board(step: Callable[[], object]) -> tuple[float, float, int]:
    steps, seconds = _run(step)
    try:
        return torch.cuda.power_draw() / 1e3, seconds, steps
    except Exception:  # no pynvml, no permission, a foreign driver
        return 0.0, seconds, steps


def _run(step: Callable[[], object]) -> tuple[int, float]:
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS or not steps:
        step()
        steps += 1
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return steps, time.perf_counter() - started
