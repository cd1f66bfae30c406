"""A combined setting taken apart: what it asks of each technique by itself."""

from collections.abc import Mapping
from typing import Any

from explorer.values.exceptions import exception_of
from explorer.values.recipe import Recipe

TECHNIQUES: Mapping[str, tuple[str, ...]] = {  # the field that says how much, and those that say how
    "depth": ("depth", "depth_by"),
    "width": ("width", "width_by"),
    "heads": ("heads",),
    "factors": ("keep", "factorize", "allocate"),
    "pruning": ("sparsity", "prune", "pattern", "scope"),
    "bits": ("bits", "quant", "group", "double"),
    "head bits": ("head_bits", "quant", "group"),
}


def apart(recipe: Recipe) -> dict[str, Recipe]:
    """By name, what a setting asks of each technique with all others left out; what is protected stays so. Empty where
    there are fewer than two."""
    plain, found = Recipe(), dict[str, Recipe]()
    for name, members in TECHNIQUES.items():
        exceptions = tuple(filter(None, (_only(entry, members[0]) for entry in recipe.layers)))
        if exceptions or getattr(recipe, members[0]) != getattr(plain, members[0]):
            settings = {member: getattr(recipe, member) for member in (*members, "protect")}
            found[name] = Recipe(**settings, layers=exceptions)
    return found if len(found) > 1 else {}


def in_turn(recipe: Recipe) -> dict[str, Recipe]:
    """By name, the setting with one technique more each time, in the order in which they are applied; the last is the
    whole setting, with all that belongs to no technique of its own."""
    so_far, found = dict[str, Any](), dict[str, Recipe]()
    for name, alone in apart(recipe).items():
        so_far |= {member: getattr(recipe, member) for member in (*TECHNIQUES[name], "protect")}
        earlier = list(found.values())[-1].layers if found else ()
        found[name] = Recipe(**so_far, layers=_joined(earlier, alone.layers))
    if found:
        found[list(found)[-1]] = recipe
    return found


def _joined(earlier: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    """Exceptions of two techniques; those of one name become one."""
    settings: dict[str, list[str]] = {}
    for entry in (*earlier, *more):
        name, _, told = entry.partition("=")
        settings.setdefault(name, []).extend(part for part in told.split(",") if part not in settings.get(name, []))
    return tuple(f"{name}={','.join(parts)}" for name, parts in settings.items())


def _only(entry: str, key: str) -> str:
    """The part of an exception that is about one setting (bits with their group); "" where there is none."""
    name, settings = exception_of(entry)
    kept = [f"{k}:{v:g}" for k, v in settings.items() if k == key or (key == "bits" and k == "group")]
    return f"{name}={','.join(kept)}" if kept else ""
