"""What opening a model would take, said before anything is fetched or read: bytes to download, memory, seconds."""

from dataclasses import dataclass
from pathlib import Path

from explorer.model import downloads, exporting
from explorer.model.calibrating import ALL_TOKENS
from explorer.model.gguf_parts import check_gguf
from explorer.model.memory import SHARE, free_bytes
from explorer.model.places import DEFAULT, on_this_computer
from explorer.model.preflight import ModelRejected, check_folder
from explorer.takes import catalogue
from explorer.takes.requirements import weight_bytes
from explorer.values.reading import Reading
from explorer.workbench.preparing import tokens_for, weights_of
from explorer.workbench.workbench import Workbench

WEIGHT = 2  # bytes of one in memory: most models are kept in 16 bits
OPENING, PREPARED = 2.3, 3.0  # times the weights' bytes: while opening, and at most afterwards (both as measured)
LARGE_ENOUGH = 20e6  # weights from which time goes with them
SECONDS = 0.3  # of preparing, for a million weights and all tokens, where none was timed here yet


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """`problem` says in one sentence why it cannot be opened; then the rest may be missing."""

    name: str
    download: Reading | None = None
    parameters: Reading | None = None
    memory: Reading | None = None
    seconds: Reading | None = None
    problem: str = ""


def outlook(name: str, bench: Workbench | None = None) -> Outlook:
    """Of a folder, a .gguf file or a Hub name; `bench` has timed its own preparation, from which this one's follows."""
    try:
        here = on_this_computer(name)
        if here is not None:
            return _told(name, 0, _parameters(here), bench)
        size, problem = downloads.hub_bytes(name)
        if problem and name != DEFAULT:
            known = catalogue.find(name)
            told = f"{name!r} is not on this computer, and {problem}."
            return Outlook(name=name, problem=told) if known is None else _told(name, 0, known.parameters, bench, told)
        return _told(name, size, size / WEIGHT, bench)
    except ModelRejected as rejected:
        return Outlook(name=name, problem=str(rejected))


def fitting(bits: int = 16) -> list[catalogue.Entry]:
    """Models of the catalogue whose weights, and work on them, fit into the memory that is free here."""
    room = SHARE * free_bytes()
    return [one for one in catalogue.entries() if OPENING * weight_bytes(one.architecture, bits) <= room]


def _parameters(place: Path) -> float:
    if place.suffix.lower() == ".gguf":
        return check_gguf(place).parameters
    if exporting.is_export(place):
        exporting.described(place)
        return check_folder(place).parameters
    return check_folder(place, quantized=True).parameters


def _told(name: str, download: float, parameters: float, bench: Workbench | None, problem: str = "") -> Outlook:
    memory = PREPARED * WEIGHT * parameters
    if not problem and OPENING * WEIGHT * parameters > SHARE * free_bytes():
        problem = (
            f"Opening it takes about {OPENING * WEIGHT * parameters / 1e9:,.1f} GB of memory, and {SHARE:.0%} of the "
            f"free {free_bytes() / 1e9:,.1f} GB may be used."
        )
    return Outlook(
        name=name,
        download=Reading(value=download, unit="bytes", how="estimated"),
        parameters=Reading(value=parameters, unit="weights", how="estimated"),
        memory=Reading(value=memory, unit="bytes", how="estimated"),
        seconds=Reading(value=_seconds(parameters, bench), unit="s", how="estimated"),
        problem=problem,
    )


def _seconds(parameters: float, bench: Workbench | None) -> float:
    """Time goes with the weights, and the fewer tokens that a large one is calibrated on."""
    own = weights_of(bench.loaded.model) if bench is not None and bench.ready.is_set() else 0
    if own > LARGE_ENOUGH and bench is not None and bench.preparation.seconds:
        share = bench.preparation.seconds / (own * tokens_for(own))
        return float(share * parameters * tokens_for(parameters))
    return SECONDS * parameters / 1e6 * tokens_for(parameters) / ALL_TOKENS
