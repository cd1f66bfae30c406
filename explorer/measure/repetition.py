"""Repetition and collapse over many prompts: one lucky sample proves nothing. Knows no model; it is given a writer."""

import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from statistics import fmean

from explorer import assets
from explorer.measure.intervals import t_quantile, wilson
from explorer.values.reading import Reading
from explorer.values.written import STOPPED, Collapse, Piece, Reason, Writing

GRAM = 4
COLLAPSED = 0.5  # share of repeated 4-grams; people's text of a hundred tokens is below 0.1
EARLY_TOKENS = 5  # no prompt of ours can be answered in fewer


@cache
def prompts() -> tuple[str, ...]:
    """Short prompts of many kinds, written for this project."""
    return tuple(tomllib.loads(assets.read("prompts.toml"))["prompts"])


def repeated_share(tokens: Sequence[int], gram: int = GRAM) -> float:
    """1 − different n-grams / n-grams of one text (seq-rep-n; Welleck et al., arXiv 1908.04319); 0 if it has none."""
    grams = [tuple(tokens[i : i + gram]) for i in range(len(tokens) - gram + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def collapse(write: Callable[[str], Iterator[Piece]], asked: Sequence[str] = ()) -> Iterator[Collapse]:
    """Let a model write after every prompt (`prompts()` unless others are asked for); yields after each of them.

    A text that somebody stopped is not counted, and ends it.
    """
    written: list[Writing] = []
    for prompt in asked or prompts():
        tokens: list[int] = []
        last: Piece | None = None
        for last in write(prompt):
            if last.token >= 0:
                tokens.append(last.token)
        if last is None or last.stopped == STOPPED:
            return
        written.append(_writing(prompt, last, tokens))
        yield _collapse(written)


def _writing(prompt: str, last: Piece, tokens: Sequence[int]) -> Writing:
    share = repeated_share(tokens[: last.tokens])
    ended = bool(last.stopped)
    collapsed: Reason = "" if share < COLLAPSED else "repeats"
    if ended and last.tokens < EARLY_TOKENS:
        collapsed = "stops early"
    if last.token < 0:
        collapsed = "not a number"
    repeated = Reading(value=share, unit="share", how="measured", n=max(last.tokens - GRAM + 1, 0))
    return Writing(prompt=prompt, text=last.text, tokens=last.tokens, repeated=repeated, collapsed=collapsed)


def _collapse(written: Sequence[Writing]) -> Collapse:
    shares = [writing.repeated.value for writing in written]
    return Collapse(
        collapsed=_share([bool(writing.collapsed) for writing in written]),
        early=_share([writing.collapsed == "stops early" for writing in written]),
        repeated=_mean(shares),
        texts=tuple(written),
    )


def _share(hits: Sequence[bool]) -> Reading:
    share = sum(hits) / len(hits)
    low, high = wilson(share, len(hits))
    return Reading(value=share, unit="share", how="measured", low=low, high=high, n=len(hits))


def _mean(shares: Sequence[float]) -> Reading:
    mean, n = fmean(shares), len(shares)
    if n < 2:
        return Reading(value=mean, unit="share", how="measured", n=n)
    error = (sum((share - mean) ** 2 for share in shares) / (n - 1) / n) ** 0.5
    reach = t_quantile(n - 1) * error
    low, high = max(mean - reach, 0.0), min(mean + reach, 1.0)
    return Reading(value=mean, unit="share", how="measured", low=low, high=high, se=error, n=n)
