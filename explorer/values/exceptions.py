"""What a recipe asks of single matrices: which are meant by a name, and what is asked of them instead."""

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from explorer.values.ranges import BITS, GROUPS, RANGES, convert, in_range

PACKED, LONG, MOST = "z.", 300, 1_000_000  # how packed entries begin; characters from which they are; unpacked at most
MOST_NAMES = 5000  # each is compared with each matrix


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a recipe asks of one matrix."""

    sparsity: float = 0.0
    bits: int = 16
    group: int = 64
    keep: float = 1.0
    protected: bool = False


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """What names a matrix answers to: its own, its kind, the number of its block among `places`; `head` is the name of
    the output head that shares an embedding, which answers to either."""

    name: str
    kind: str
    place: int = -1
    places: int = 0
    head: str = ""

    def is_meant_by(self, pattern: str) -> bool:
        """Whether an exception or a protection of this name is about it."""
        if pattern == "first" and self.place == 0 or pattern == "last" and self.place == self.places - 1 >= 0:
            return True
        return _is_named(pattern, self.name, self.kind) or bool(self.head) and _is_named(pattern, self.head, "head")


def _is_named(pattern: str, name: str, kind: str) -> bool:
    return (
        pattern in (kind, name)
        or name.startswith(f"{pattern}.")
        or name.endswith(f".{pattern}")
        or (any(sign in pattern for sign in "*?") and fnmatchcase(name, pattern))
    )


def names_of(field: str, value: Any) -> tuple[str, ...]:
    """Sorted, each once, from a list, from text with semicolons, or from what `as_text` made of them; ValueError in one
    sentence."""
    entries = _unpacked(field, value).split(";") if isinstance(value, str) else value
    if not isinstance(entries, tuple | list) or not all(isinstance(entry, str) for entry in entries):
        raise ValueError(f"{field} must be a list of names, not {str(value)[:20]}.")
    found = tuple(sorted({entry.strip() for entry in entries} - {""}))
    if len(found) > MOST_NAMES:
        raise ValueError(f"{field} names {len(found):,} matrices; {MOST_NAMES:,} are the most.")
    return found


def as_text(entries: tuple[str, ...]) -> str:
    """Entries with semicolons between them; where that is long, as a budget's 200 are, packed (zlib, base64), so that
    an address stays one that can be sent."""
    text = ";".join(entries)
    packed = PACKED + urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")
    return packed if len(text) > LONG else text


def _unpacked(field: str, text: str) -> str:
    if not text.startswith(PACKED):
        return text
    try:
        unpacking = zlib.decompressobj()
        found = unpacking.decompress(urlsafe_b64decode(text.removeprefix(PACKED) + "=="), MOST).decode()
    except (ValueError, zlib.error):
        found = ""
    if not found or not unpacking.eof:
        raise ValueError(f"{field} is cut off or damaged.")
    return found


@lru_cache(maxsize=4096)  # read once for every matrix, and again for every recipe of a budget
def exception_of(entry: str) -> tuple[str, Mapping[str, float]]:
    """`mlp=bits:4,keep:0.5` → ("mlp", {"bits": 4, "keep": 0.5})."""
    name, found, text = entry.partition("=")
    settings: dict[str, float] = {}
    for part in text.split(","):
        key, _, value = part.partition(":")
        if not found or not name or key not in ("bits", "group", "sparsity", "keep"):
            raise ValueError(f"layers must read NAME=bits:4,sparsity:0.5,keep:0.8,group:64, not {entry[:40]!r}.")
        number = convert(f"{key} of {name}", value, float)
        if key in RANGES:
            settings[key] = in_range(key, number, RANGES[key])
        elif key == "bits" and number in BITS or key == "group" and f"{number:g}" in GROUPS:
            settings[key] = int(number)
        else:
            raise ValueError(
                f"{key} of {name} must be one of {', '.join(map(str, BITS if key == 'bits' else GROUPS))}."
            )
    return name, settings
