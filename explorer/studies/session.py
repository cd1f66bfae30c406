"""What was measured since the start, as a table: one row a setting, with all that is needed to measure it again."""

import csv
import io
import json
import platform
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from typing import Any

import psutil
import torch

from explorer import __version__
from explorer.measure.machine import processor
from explorer.takes.architecture import Architecture, parameters
from explorer.takes.configs import architecture_of_config
from explorer.values.measurement import Measurement
from explorer.values.recipe import Recipe
from explorer.values.record import Part, measurement
from explorer.workbench.workbench import Workbench

PACKAGES = ("torch", "transformers", "bitsandbytes", "numpy")
LARGEST = 2**26  # characters of a session.json; 256 settings are about 2 MB


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a session.json says: `about` as it stands there, the dimensions of the model where they are known, every
    setting that was tried, and how each is measured again."""

    about: Mapping[str, Any]
    architecture: Architecture | None
    rows: tuple[Measurement, ...]
    commands: Mapping[Recipe, str]


def about(bench: Workbench) -> dict[str, Any]:
    """Hardware, versions, and the texts that were measured on."""
    return {
        "processor": processor("cuda" if bench.device == "cuda" else "cpu"),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {"size-explorer": __version__, **{name: version(name) for name in PACKAGES}},
        "texts": {kind: len(passages) for kind, passages in bench.texts.items()},
        "architecture": _dimensions(bench),
        "seed": 0,
    }


def _dimensions(bench: Workbench) -> dict[str, Any] | None:
    """What costs are calculated from; None for a family whose dimensions are not known here."""
    config: Any = bench.loaded.model.config
    try:
        return asdict(architecture_of_config(config.to_dict()))
    except ValueError:
        return None


def command(bench: Workbench, row: Measurement) -> str:
    """What to type to measure this setting again."""
    words = ["python -m explorer measure", "--model", shlex.quote(bench.name), arguments_of(row.recipe), "--json"]
    if row.quality:
        words += ["--tokens", str(row.quality.tokens + row.quality.broken_positions)]
    if row.speed:
        words += ["--prompt-tokens", str(row.speed.prompt_tokens), "--batch", str(row.speed.batch)]
    return " ".join(filter(None, words))


def as_json(bench: Workbench) -> str:
    """Everything: what it was measured on, and each setting's whole record with the texts it wrote for a report."""
    rows = [
        row.to_dict() | {"command": command(bench, row), "texts": [asdict(pair) for pair in row.texts]}
        for row in bench.history()
    ]
    return json.dumps({"about": about(bench), "rows": rows}, indent=1)


def opened(text: str) -> Session:
    """What `as_json` wrote. It comes from a file, so ValueError, one sentence, says what cannot be."""
    if len(text) > LARGEST:
        raise ValueError("This session.json is too long.")
    try:
        whole = Part(json.loads(text), "session")
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("This is no session.json: it is not JSON.") from None
    told = whole.part("about").values
    rows = [Part(each, "rows") for each in whole.several("rows")]
    found = {row.recipe: (row, part.text("command", "")) for part in rows for row in [measurement(part.values)]}
    return Session(
        about=told,
        architecture=_architecture(told.get("architecture")),
        rows=tuple(row for row, _ in found.values()),
        commands={recipe: words for recipe, (_, words) in found.items()},
    )


def _architecture(values: object) -> Architecture | None:
    if values is None:
        return None
    part = Part(values, "about.architecture")
    known = {field.name: field.type for field in fields(Architecture)}
    sizes = {name: part.values[name] for name in known if name in part.values}
    for name, value in sizes.items():
        kind = known[name] if known[name] in (bool, int) else str
        if type(value) is not kind or (type(value) is int and not 0 <= value <= 10**8):
            raise ValueError(f"about.architecture.{name} cannot be {str(value)[:40]}.")
    try:
        found = Architecture(**sizes)
        return found if parameters(found) else None
    except (TypeError, KeyError, ZeroDivisionError):
        raise ValueError("about.architecture lacks dimensions.") from None


def as_csv(bench: Workbench) -> str:
    """`csv_of` all that was measured since the start, with what it was measured on in each line."""
    common = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in about(bench).items()}
    return csv_of([row.to_dict() | {"command": command(bench, row)} for row in bench.history()], common)


def csv_of(records: Iterable[Mapping[str, Any]], common: dict[str, Any]) -> str:
    """One line a setting; parts of a record in columns named by their path, empty where something was not measured.
    `common` stands in every line."""
    rows = list[dict[str, Any]]()
    for record in records:
        words = {"setting": Recipe.from_dict(record["recipe"]).words(), "command": record.get("command")}
        rows.append(words | dict(_flat({k: v for k, v in record.items() if k not in ("recipe", "command")})) | common)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", "; ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _harmless(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def arguments_of(recipe: Recipe) -> str:
    """A recipe as options of the command line, quoted for a shell: visitors write its names."""
    plain, words = Recipe(), []
    for field in fields(Recipe):
        value = getattr(recipe, field.name)
        if value == getattr(plain, field.name):
            continue
        option = f"--{field.name.removesuffix('s') if field.name == 'layers' else field.name}".replace("_", "-")
        if isinstance(value, tuple):
            words += [f"{option}={shlex.quote(entry)}" for entry in value]  # = as a name may begin with a dash
        else:
            words.append(option if value is True else f"{option} {value}")
    return " ".join(words)
