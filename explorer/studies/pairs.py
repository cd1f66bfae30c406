"""Pairs of texts for who reads no figures: the original and one setting after the same few prompts."""

import tomllib
from collections.abc import Generator

from explorer import assets
from explorer.values.prompt import Prompt
from explorer.values.recipe import Recipe
from explorer.values.written import Pair
from explorer.workbench.workbench import Workbench


def prompts() -> tuple[str, ...]:
    """Three prompts that nobody typed, so that what is kept of a session tells nothing of its visitors."""
    return tuple(tomllib.loads(assets.read("prompts.toml"))["pairs"])


def write(bench: Workbench, recipe: Recipe, tokens: int = 48) -> Generator[float, None, tuple[Pair, ...]]:
    """One pair a prompt, up to `tokens` tokens each, the likeliest token each time; yields the share done. Written once
    for each setting, and kept with what was measured of it."""
    known = bench.measured(recipe)
    if known and known.texts:
        return known.texts
    found, asked = list[Pair](), prompts()
    for done, text in enumerate(asked):
        prompt, last = Prompt(text=text, new_tokens=tokens), {True: "", False: ""}
        for mine in last:
            for piece in bench.write(None if mine else recipe, prompt):
                last[mine] = piece.text
                yield (done + (piece.tokens / tokens + (not mine)) / 2) / len(asked)
        found.append(Pair(prompt=text, original=last[True], compressed=last[False]))
    bench.record(bench.variant(recipe), texts=tuple(found))
    return tuple(found)
