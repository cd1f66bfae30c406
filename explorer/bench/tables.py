"""What `bench` found, as the tables of docs/FIGURES.md."""

from collections.abc import Iterable
from typing import Any

MARKS = ("<!-- bench -->", "<!-- /bench -->")  # what stands between them is written anew
RELEASES = {
    "sparsity": "pruning",
    "bits": "bits",
    "bits with head": "bits with head",
    "keep": "factorization",
    "depth": "depth",
    "all three": "pruning, bits and factors",
}


def insert(text: str, found: dict[str, Any]) -> str:
    """A document with the figures in their place; ValueError where it has none."""
    before, start, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not start or not end:
        raise ValueError(f"The document has no place for figures, between {MARKS[0]} and {MARKS[1]}.")
    return f"{before}{start}\n{tables(found)}\n{end}{after}"


def tables(found: dict[str, Any]) -> str:
    """Markdown: what it was taken on, times, distances beside peers', other methods."""
    on = found["machine"]
    said = (
        f"`size-explorer bench`, {found['model']}, {on['processor']}, {on['threads']} threads, torch {on['torch']}; "
        "medians of one run."
    )
    rows = [*_starts(found), *_releases(found), *_decodes(found["decode"]), *_bytes(found)]
    parts = [said, _table(("what", "measured"), rows)]
    for title, group in (("best level", True), ("other methods", False)):
        wanted = [row for row in found["quality"] if ("gptq" in row["recipe"]) is group]
        cells = [(row["recipe"], f"{row['megabytes']:.1f}", f"{row['kl']:.4f}") for row in wanted]
        parts.append(_table((f"this program, {title}", "MB", "KL"), cells))
    if found["peers"]:
        theirs = [
            (p["peer"], f"{p['megabytes']:.1f}", f"{p['kl']:.4f}", _ms(p["ms_per_token"])) for p in found["peers"]
        ]
        parts.append(_table(("same weights", "MB", "KL", "ms per token"), theirs))
    if found.get("race"):
        parts.append(raced(found["race"]))
    return "\n\n".join(parts)


def raced(rows: Iterable[dict[str, Any]]) -> str:
    """Markdown of `race.run`."""
    head = ("types", "made by", "MB", "KL in llama.cpp", "KL of the weights alone")
    cells = [
        (row["mix"], row["maker"], f"{row['megabytes']:.1f}", f"{row['kl']:.4f}", f"{row['weights_kl']:.4f}")
        for row in rows
    ]
    return _table(head, cells)


def _starts(found: dict[str, Any]) -> Iterable[tuple[str, str]]:
    page = found["page"]
    if page:
        yield (
            "start: page answers · model ready",
            f"{page['start_to_page_answers_seconds']:.1f} · {page['start_to_model_ready_seconds']:.1f} s",
        )
        loads = (page[f"load_{kind}_to_controls_ms"]["median"] / 1e3 for kind in ("cold", "warm"))
        yield "page load to usable controls: cold · warm", " · ".join(f"{load:.2f}" for load in loads) + " s"
        yield "drag → calculated size on the page", f"{page['drag_to_size_ms']['median']:.0f} ms"
        waits = (page[f"release_to_{what}_ms"]["median"] / 1e3 for what in ("text", "quality", "all"))
        yield "release → text begins · distance · everything", " · ".join(f"{wait:.2f}" for wait in waits) + " s"
    yield "all facts prepared", f"{found['prepare_seconds']:.1f} s"


def _releases(found: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for name, words in RELEASES.items():
        each = found["release_to_weights_seconds"][name]
        yield f"release → real weights: {words}", f"{each['median']:.2f} s ({each['low']:.2f} to {each['high']:.2f})"
    best = found["best_level_seconds"]
    yield "best level, whole model: GPTQ · SparseGPT", f"{best['gptq']:.1f} · {best['sparsegpt']:.1f} s"


def _decodes(decode: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for name, each in decode.items():
        times = (each["ms_per_token"], each["original_ms_per_token"], each["transformers_ms_per_token"])
        yield (
            f"ms per token, {name} · the original · as transformers runs it",
            f"{' · '.join(map(_ms, times))} ({each['times_faster']:.2f}×)",
        )


def _bytes(found: dict[str, Any]) -> Iterable[tuple[str, str]]:
    count = found["bytes"]
    yield (
        "predicted = stored = exported bytes",
        f"{count['predicted_equals_stored_equals_exported']} of {count['recipes']} recipes",
    )
    same = "identical, bit for bit" if found["empty_recipe_identical"] else "NOT identical"
    yield "all sliders back to zero: logits", same


def _ms(reading: dict[str, Any] | float) -> str:
    return f"{reading['median'] if isinstance(reading, dict) else reading:.1f}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
