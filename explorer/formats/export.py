"""The job: one setting leaves in one or several formats, each opened again by the program that it is for. All appears
at once under its name, or nothing does: a stopped or failed export leaves nothing."""

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from explorer.formats import checking, gguf_mixed
from explorer.formats.blockwise_folder import blockwise_folder
from explorer.formats.card import card
from explorer.formats.catalogue import FORMATS, file_of, formats, mixed_file_of, proposed
from explorer.formats.checking import Found, Right
from explorer.formats.folders import WEIGHTS, Folder, plain_folder, write_json
from explorer.formats.gguf_file import GgufFile
from explorer.formats.leaves import Structure, structure_of
from explorer.formats.modelfile import modelfile
from explorer.formats.packed_folder import packed_folder
from explorer.model import exporting
from explorer.model.compressing import reshape
from explorer.model.preflight import ModelRejected
from explorer.values.departure import Departure, Offer
from explorer.values.progress import scaled
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

R = TypeVar("R")
SPARE = 20_000_000  # bytes for tokenizer and cards
ENDINGS = (".gguf", ".safetensors", ".bin")


@dataclass(frozen=True, kw_only=True)
class Underway:
    """What an export is at, and which share of all is done."""

    words: str
    share: float


Job = Generator[Underway, None, tuple[Departure, ...]]


def judged(asked: Sequence[str], out: Path | None, mix: str = "") -> tuple[str, ...]:
    """The formats asked for, each once. ValueError in one sentence, before anything is opened."""
    odd = [name for name in asked if name not in FORMATS]
    if odd or not asked:
        raise ValueError(f"A format is one of {', '.join(FORMATS)}, not {odd[0] if odd else 'none'}.")
    if mix and set(asked) != {"gguf"}:
        raise ValueError(f"{mix} is made of the types of GGUF alone: say --format gguf.")
    if out is not None:
        if out.suffix.lower() in ENDINGS:
            raise ValueError(f"--out names a folder, and {out.name} looks like a file: the file lies inside it.")
        exporting.check_new(out)
    return tuple(dict.fromkeys(asked))


def export(
    bench: Workbench, recipe: Recipe, asked: Sequence[str], out: Path | None = None, check: bool = True, mix: str = ""
) -> Job:
    """Write a setting of an opened model; whoever stops the generator ends it, and nothing is left.

    out: a folder that is not there yet, of one format itself, of several with a folder each; by default a name in the
    working folder that says what it is. mix: types of a .gguf file that its matrices are rounded for, as `Q4_K_M`.
    ValueError and ModelRejected in one sentence.
    """
    asked = judged(asked, out, mix)
    offers = {offer.format: offer for offer in bench.engine.step(lambda: formats(bench, recipe, mix))}
    chosen = [offers[name] for name in asked]
    for offer in chosen:
        if offer.problem:
            raise ValueError(offer.problem)
    largest = max(offer.bytes.value for offer in chosen if offer.bytes)
    out = out or Path(proposed(bench, recipe, largest / 1e6, mix))
    judged(asked, out, mix)
    out.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(offer.bytes.value for offer in chosen if offer.bytes) + SPARE * len(chosen)
    if shutil.disk_usage(out.parent).free < 1.05 * needed:
        raise ValueError(f"The export needs {needed / 1e6:,.0f} MB of disk, and there is less free.")
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name[:40]}.partial-", dir=out.parent))
    try:
        found = yield from _written(bench, recipe, chosen, partial, out, check)
        whole = partial if len(chosen) > 1 else partial / asked[0]
        whole.chmod(0o755)
        if out.exists():
            raise ValueError(f"{out} exists by now; choose another name, nothing is overwritten.")
        whole.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return found


def _written(bench: Workbench, recipe: Recipe, chosen: Sequence[Offer], partial: Path, out: Path, check: bool) -> Job:
    step, mix = bench.engine.step, chosen[0].grid
    if mix:
        yield from _known(bench)
    yield Underway(words="Making the weights", share=0.0)
    variant = bench.variant(recipe)
    known = bench.measured(recipe) or bench.record(variant)
    right = step(lambda: checking.right_of(variant.model, bench.passages)) if check else None
    built = bench.variants.unsettled(recipe)
    structure = structure_of(built.model, bench.loaded.model)
    found = []
    for place, offer in enumerate(chosen):
        own = f"{out.name}/{offer.format}" if len(chosen) > 1 else out.name
        folder, start = partial / offer.format, (place + 0.1) / len(chosen)
        about = (bench, recipe, built, structure, folder, out.name)
        writer = _mixed(*about, mix) if mix else WRITERS[offer.format](*about)
        for share in _steps(step, writer):
            yield Underway(words=f"Writing {offer.format}", share=start + 0.5 * share / len(chosen))
        result = None
        if right is not None:
            words = f"Opening {offer.format} again"
            yield Underway(words=words, share=start + 0.5 / len(chosen))
            opened = None
            for at in _steps(step, OPENERS[offer.format](bench, folder, right)):
                opened = at
                yield Underway(words=words, share=start + 0.7 / len(chosen))
            weights = next(file for pattern in ("*.gguf", WEIGHTS) for file in folder.glob(pattern))
            if opened is not None:  # None where its package is not installed
                most = checking.MOST_ROUNDED if mix else checking.MOST
                result = checking.compared(right, opened, bench.loaded.tokenizer, weights.stat().st_size, most)
        (folder / "README.md").write_text(card(bench, known, offer, result), encoding="utf-8")
        if result is not None:
            write_json(folder / "check.json", result.to_dict())
        folder.chmod(0o755)
        found.append(Departure(offer=offer, folder=str(out.parent / own), check=result))
    yield Underway(words="Done", share=1.0)
    return tuple(found)


def _known(bench: Workbench) -> Iterator[Underway]:
    """What goes into each layer, and how strongly the loss feels it."""
    for work in (bench.prepare(), () if bench.facts.refined else _steps(bench.engine.step, _refined(bench))):
        for _ in work:
            yield Underway(words="Calibrating, once", share=0.0)


def _refined(bench: Workbench) -> Iterator[float]:
    yield from bench.facts.refine(bench.loaded.model)


def _steps(step: Callable[[Callable[[], Any]], Any], work: Iterator[R]) -> Iterator[R]:
    """Each step where torch may work; ends the work when it is not gone on with."""
    end = object()
    try:
        while (found := step(lambda: next(work, end))) is not end:
            yield found
    finally:
        close = getattr(work, "close", None)
        if close:
            step(close)


def _explorer(bench: Workbench, recipe: Recipe, built: Any, _: Structure, folder: Path, __: str) -> Iterator[float]:
    known = bench.measured(recipe)
    assert known is not None
    about = (recipe, built.allotted, bench.name)
    exporting.write(built.model, about, bench.loaded.tokenizer, known.to_dict(), folder)
    yield 1.0


def _folder(made: Callable[[Structure, nn.Module], Folder]) -> Any:
    def write(bench: Workbench, _: Recipe, built: Any, structure: Structure, folder: Path, __: str) -> Iterator[float]:
        folder.mkdir()
        yield from made(structure, built.model).write(folder, built.model, bench.loaded.tokenizer)

    return write


def _gguf(
    bench: Workbench, recipe: Recipe, built: Any, structure: Structure, folder: Path, name: str
) -> Iterator[float]:
    yield from _into(folder, name, file_of(bench, recipe, built.model, structure), bench)


def _mixed(
    bench: Workbench, recipe: Recipe, built: Any, structure: Structure, folder: Path, name: str, mix: str
) -> Iterator[float]:
    facts = reshape(bench.loaded.model, recipe, bench.facts)[1]
    made = mixed_file_of(bench, recipe, built.model, structure, mix)
    made = yield from scaled(gguf_mixed.rounded(made, facts), 0.0, 0.9)
    for share in _into(folder, name, made, bench):
        yield 0.9 + 0.1 * share


def _into(folder: Path, name: str, made: GgufFile, bench: Workbench) -> Iterator[float]:
    folder.mkdir()
    file = folder / f"{name}.gguf"
    yield from made.write(file)
    if file.stat().st_size != made.bytes:
        raise ModelRejected("export", f"{file.name} was cut short; nothing was kept.")
    ends = [
        made.words[key]
        for key in (f"tokenizer.ggml.{word}_token_id" for word in ("eos", "eot", "eom"))
        if key in made.words
    ]
    (folder / "Modelfile").write_text(modelfile(file.name, bench.loaded.tokenizer, ends), encoding="utf-8")


def _open_explorer(_: Workbench, folder: Path, right: Right) -> Iterator[Found | None]:
    yield checking.of_model(exporting.read(folder)[0], right, "the size explorer")


def _open_gguf(bench: Workbench, folder: Path, right: Right) -> Iterator[Found | None]:
    file = next(folder.glob("*.gguf"))
    if checking.has("llama_cpp"):
        yield from checking.by_llama_cpp(file, right, bench.loaded.tokenizer)
    else:
        yield checking.by_gguf_package(file, right)


def _open_packed(_: Workbench, folder: Path, right: Right) -> Iterator[Found | None]:
    if checking.has("compressed_tensors"):
        yield checking.by_compressed_tensors(folder, right)
    else:
        yield None


WRITERS: dict[str, Any] = {
    "explorer": _explorer,
    "transformers": _folder(lambda structure, _: plain_folder(structure)),
    "gguf": _gguf,
    "compressed-tensors": _folder(packed_folder),
    "bitsandbytes": _folder(blockwise_folder),
}
OPENERS: dict[str, Callable[[Workbench, Path, Right], Iterator[Found | None]]] = {
    "explorer": _open_explorer,
    "transformers": lambda _, folder, right: iter([checking.by_transformers(folder, right)]),
    "gguf": _open_gguf,
    "compressed-tensors": _open_packed,
    "bitsandbytes": lambda _, folder, right: iter([checking.by_transformers(folder, right, "bitsandbytes")]),
}
