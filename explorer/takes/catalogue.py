"""Open models and their published dimensions, read from assets/catalogue.toml. Needs no weights and no network."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from explorer import assets
from explorer.takes.architecture import Architecture, parameters
from explorer.takes.configs import architecture_of_config, open_config, read_config

__all__ = ["Architecture", "Entry", "architecture_of_config", "entries", "find", "open_config", "parameters"]
__all__ += ["read_config"]
OF_ENTRY = ("id", "parameters", "tokens", "licence", "source")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model: its name, its dimensions, and what is published of it. `tokens` (seen in training) is None where
    that is not published; `parameters` is the published count, a tied head once."""

    id: str
    family: str
    architecture: Architecture
    parameters: int
    tokens: int | None
    licence: str
    source: str

    @property
    def short(self) -> str:
        return self.id.rpartition("/")[2]

    @property
    def config(self) -> str:
        """Where the dimensions are published."""
        return f"https://huggingface.co/{self.id}/blob/main/config.json"


@cache
def entries() -> tuple[Entry, ...]:
    """The whole catalogue, smallest first."""
    families = tomllib.loads(assets.read("catalogue.toml")).values()
    found = [_entry(family, model) for family in families for model in family["models"]]
    return tuple(sorted(found, key=lambda entry: (entry.parameters, entry.id)))


def find(name: str) -> Entry | None:
    """The entry of an id or of the last part of one, in capitals or not; None where there is none."""
    wanted = name.strip().lower()
    return next((entry for entry in entries() if wanted in (entry.id.lower(), entry.short.lower())), None)


def named(name: str) -> tuple[str, Architecture, Entry | None]:
    """Name, dimensions and, where it is in the catalogue, the entry of an id, a config.json or a folder with one."""
    entry = find(name)
    if entry:
        return entry.id, entry.architecture, entry
    path = Path(name)
    if not path.exists():
        raise ValueError(f"{name[:80]} is neither in the catalogue nor a config.json or a folder with one.")
    return path.name if path.is_dir() else path.parent.name or path.name, open_config(path), None


def _entry(family: dict[str, Any], model: dict[str, Any]) -> Entry:
    known: dict[str, Any] = {key: family.get(key) for key in ("tokens", "licence", "source")} | model
    sizes = family["shared"] | {key: value for key, value in model.items() if key not in OF_ENTRY}
    sizes = {"kv_heads": sizes["heads"], "head_size": sizes["hidden"] // sizes["heads"]} | sizes
    about = {key: known[key] for key in OF_ENTRY}
    return Entry(family=family["family"], architecture=Architecture(**sizes), **about)
