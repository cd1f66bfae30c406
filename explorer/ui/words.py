"""The sentences of the page: a table for each panel, in assets/words under the panel's name."""

import tomllib
from functools import cache
from typing import Any

from explorer import assets


class Words:
    """One table; what is asked for by a name that it lacks is a KeyError."""

    def __init__(self, name: str) -> None:
        self._table: dict[str, Any] = tomllib.loads(assets.read(f"words/{name}.toml"))

    def __getitem__(self, key: str) -> Any:
        return self._table[key]

    def say(self, key: str, **values: Any) -> str:
        """A sentence for the status line, its places filled."""
        sentence: str = self._table["status"][key]
        return sentence.format(**values)


@cache
def words(name: str) -> Words:
    """The words of one panel."""
    return Words(name)
