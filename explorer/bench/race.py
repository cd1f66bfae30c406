"""Files of llama.cpp's mixes, ours against llama-quantize's with and without an importance matrix of the same
calibration texts: equal types and bytes, on the same text, in llama.cpp itself, against the original in float32."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from explorer.bench import peers
from explorer.formats import gguf_mixed
from explorer.formats.catalogue import file_of, mixed_file_of
from explorer.formats.gguf_file import GgufFile
from explorer.formats.leaves import Structure, structure_of
from explorer.measure.quality import References, logits_of, mean_kl, score
from explorer.model import conversion
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

MIXES = ("Q3_K_M", "Q4_K_M", "Q5_K_M")
PLAIN = Recipe()


def run(workbench: Workbench, original: References, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row a mix and maker: `kl` in llama.cpp, which rounds inputs too, and `weights_kl` of the decoded weights alone,
    in float32; the first row is the file that nothing was rounded in. Needs llama-cpp-python."""
    rows = []
    for _ in workbench.prepare():
        pass
    with tempfile.TemporaryDirectory(prefix="size-explorer-") as scratch:
        plain, matrix = Path(scratch) / "plain.gguf", Path(scratch) / "importance.npz"
        made = workbench.engine.step(lambda: _plain(workbench, plain, matrix))
        rows.append({"mix": made, "maker": "not rounded", **_row(plain, "", original, workbench)})
        for mix in MIXES:
            ours = Path(scratch) / "ours.gguf"
            say(f"{mix}: rounding.")
            workbench.engine.step(partial(_ours, workbench, mix, ours))
            say(f"{mix}: ours and llama-quantize's in llama.cpp.")
            theirs = {"llama-quantize": "", "llama-quantize, importance matrix": str(matrix)}
            rows.append({"mix": mix, "maker": "this program", **_row(ours, "", original, workbench)})
            rows += [
                {"mix": mix, "maker": maker, **_row(plain, mix, original, workbench, importance)}
                for maker, importance in theirs.items()
            ]
    return rows


def _structure(workbench: Workbench) -> tuple[Any, Structure]:
    model = workbench.variants.unsettled(PLAIN).model
    return model, structure_of(model, workbench.loaded.model)


def _write(made: GgufFile, file: Path) -> None:
    for _ in made.write(file):
        pass


def _plain(workbench: Workbench, file: Path, matrix: Path) -> str:
    """The original as a file, and E[x²] of its matrices by their names there; the type of most."""
    made = file_of(workbench, PLAIN, *_structure(workbench))
    _write(made, file)
    named = ((entry.name, entry.leaf.name.removesuffix(".weight")) for entry in made.entries if entry.leaf is not None)
    powers = {name: workbench.facts.importance(layer) for name, layer in named}
    np.savez(matrix, **{name: power.numpy() for name, power in powers.items() if power is not None})  # type: ignore[arg-type]
    return made.kinds().most_common(1)[0][0]


def _ours(workbench: Workbench, mix: str, file: Path) -> None:
    if not workbench.facts.refined:
        for _ in workbench.facts.refine(workbench.loaded.model):
            pass
    _write(
        _last(gguf_mixed.rounded(mixed_file_of(workbench, PLAIN, *_structure(workbench), mix), workbench.facts)), file
    )


def _last(steps: Iterator[float]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def _row(file: Path, mix: str, original: References, workbench: Workbench, importance: str = "") -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="size-explorer-") as scratch:
        kept = Path(scratch) / "model.gguf"
        found, logits = peers.predicted(file, peers.TYPES.get(mix, -1), original, importance, kept if mix else None)
        scores = workbench.engine.step(lambda: peers.scores_of(logits, original))
        alone = workbench.engine.step(lambda: _weights_alone(kept if mix else file, original))
    return {"kl": mean_kl(scores), "tokens": sum(s.tokens for s in scores), "weights_kl": alone, **found}


def _weights_alone(file: Path, original: References) -> float:
    """KL of the decoded weights, by float32 arithmetic."""
    model = conversion.decoded(file)[0].eval().float()
    found = [logits_of(model, passage) for passage in original.passages]
    return mean_kl([score(*each) for each in zip(original.passages, original.logits, found, strict=True)])
