"""Which models are on this computer: the Hugging Face cache, what was opened before, and exports of this program."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from explorer.files import cache_folder, replacing
from explorer.model import downloads
from explorer.model.places import DEFAULT

REMEMBERED = 30  # names, the newest first
Kind = Literal["opened", "export", "hub"]


@dataclass(frozen=True)
class Here:
    """A model that needs no download, by the name that opens it."""

    name: str
    kind: Kind


def here() -> list[Here]:
    """What was opened or written last comes first; what is gone by now is left out."""
    told = [Here(name, kind) for name, kind in _remembered().items() if _there(name)]
    names = {one.name for one in told}
    return told + [Here(name, "hub") for name in downloads.kept_from_hub() if name not in names]


def remember(name: str, kind: Kind = "opened") -> None:
    """A folder or file is kept by its whole path, so that it is found from anywhere."""
    path = Path(name).expanduser()
    name = str(path.resolve()) if path.exists() else name
    known = {name: kind} | {other: kind for other, kind in _remembered().items() if other != name}
    with suppress(OSError), replacing(_list()) as file:  # a list of names is worth no failure
        file.write_text(json.dumps(dict(list(known.items())[:REMEMBERED])), encoding="utf-8")


def _list() -> Path:
    return cache_folder() / "opened.json"


def _remembered() -> dict[str, Kind]:
    try:
        found = json.loads(_list().read_text(encoding="utf-8"))
        return {name: kind for name, kind in found.items() if kind in ("opened", "export") and isinstance(name, str)}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def _there(name: str) -> bool:
    path = Path(name)
    return path.exists() if path.is_absolute() else name == DEFAULT or downloads.from_hub_before(name) is not None
