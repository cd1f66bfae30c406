"""A .gguf file, decoded once into a folder that opens like any other."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from explorer.files import cache_folder
from explorer.model.gguf_header import Header, read_header
from explorer.model.gguf_parts import check_gguf, gguf_sha256, joined, parts_of
from explorer.model.gguf_rotary import check_rotary
from explorer.model.gguf_settings import FAMILIES, NEWLY_LOADED, NEWLY_UNDECODABLE, changed, head_dim_of, settings
from explorer.model.gguf_tokenizer import complete_tokenizer, end_tokens
from explorer.model.loaders import config_of, gguf_tokenizer_of, model_of, quiet
from explorer.model.memory import check_memory
from explorer.model.preflight import ModelRejected, first_line, refusing, require
from explorer.model.whole import check_whole, gguf_info
from explorer.values.progress import Telling

VERSION = 3  # of how files of any origin are decoded and checked: what an earlier one kept is made anew
NOTES = "size-explorer-notes.txt"  # in a kept folder: what of its file is not as it was

Step = Callable[[Callable[[], Any]], Any]  # runs one piece of work where torch may work, see `Workbench.step`


def kept_for(gguf: Path) -> Path:
    """The folder that a file of this content is decoded into."""
    name = f"-{gguf_sha256(gguf)[:16]}"
    forget_earlier("gguf", name)
    return kept_under("gguf", name)


def kept_under(kind: str, name: str = "") -> Path:
    """A folder for a decoded model, in which no earlier version of this program has written."""
    return cache_folder() / "models" / f"{kind}{VERSION}{name}"


def forget_earlier(kind: str, name: str = "") -> None:
    """Remove what earlier versions kept under this name."""
    for earlier in (kind, *(f"{kind}{version}" for version in range(2, VERSION))):
        shutil.rmtree(cache_folder() / "models" / f"{earlier}{name}", ignore_errors=True)


def notes_of(folder: Path) -> str:
    """What must be known of a kept copy, in whole sentences; nothing of most."""
    with suppress(OSError):
        return (folder / NOTES).read_text(encoding="utf-8")
    return ""


def converted(gguf: Path, folder: Path, parameters: int, step: Step) -> Telling[Path]:
    """The folder, once it holds the decoded file. ModelRejected in one plain sentence."""
    if not (folder / "model.safetensors").is_file():
        check_memory(8 * parameters)
        yield "Converting the model to bfloat16, about 20 s. This happens once."
        step(partial(_convert, gguf, folder))
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    """Decode a GGUF file into a bfloat16 safetensors folder, which appears whole or not at all; one that another
    process made meanwhile stays."""
    model, tokenizer, notes = decoded(gguf)
    # the weights are decoded now; transformers would refuse to save what it takes for a quantized model
    with suppress(AttributeError):
        del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    folder.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        model.config.name_or_path = ""
        with quiet():
            model.save_pretrained(half)
            tokenizer.save_pretrained(half)
        if notes:
            (half / NOTES).write_text(f"Of the file, {'; '.join(notes)}.", encoding="utf-8")
        if not (folder / "model.safetensors").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # another process was first, and its folder is as good
                half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def decoded(gguf: Path) -> tuple[Any, Any, list[str]]:
    """Model and tokenizer of a GGUF file, and what of it stays in doubt. The file is opened alone in a folder:
    transformers would also read configs that lie beside it, and nobody checked those. ModelRejected where it is not
    all there, has values that cannot be, or such that change numbers and cannot be applied."""
    files = check_gguf(gguf)
    words = f"models of the family {files.architecture} are not opened from GGUF here; take the original folder"
    require(files.architecture in FAMILIES, "family", f"The file {gguf.name} cannot be opened: {words}")
    odd = sorted(files.dtypes & NEWLY_UNDECODABLE) if files.architecture in NEWLY_LOADED else []
    words = f"{gguf.name} uses {', '.join(odd)}, which cannot be decoded here for {files.architecture}"
    require(not odd, "undecodable", words)
    with tempfile.TemporaryDirectory(prefix="size-explorer-", ignore_cleanup_errors=True) as folder, quiet():
        alone = Path(folder) / "model.gguf"
        if len(parts_of(gguf)) == 1:
            _link(gguf.resolve(), alone)
        else:
            with refusing("disk", f"The parts of {gguf.name} cannot be joined"):
                joined(gguf, alone)
        with _refusing(f"The file {gguf.name} cannot be opened"):
            header = read_header(alone, gguf.name)
            model, info, notes = _model(header, alone)
            info = gguf_info(model, info, files)
            tokenizer = gguf_tokenizer_of(alone.parent, alone.name)
            notes += complete_tokenizer(tokenizer, header)
            _end(model, end_tokens(tokenizer, header))
    check_whole(model, info)
    return model, tokenizer, notes


@contextmanager
def _refusing(words: str) -> Iterator[None]:
    """As `refusing`, but what was refused in a sentence of our own keeps it."""
    try:
        yield
    except ModelRejected:
        raise
    except Exception as error:
        raise ModelRejected("cannot-open", f"{words}: {first_line(error)}") from None


def _model(header: Header, alone: Path) -> tuple[Any, Any, list[str]]:
    config = config_of(alone.parent, gguf_file=alone.name)
    found = settings(header, config)
    config = changed(config, found.changes)
    # transformers' newer loader works out values in the dtype asked for, and does not round them to it at the end
    exact = torch.float32 if header.architecture in NEWLY_LOADED else torch.bfloat16
    model, info = model_of(alone.parent, config=config, gguf_file=alone.name, dtype=exact)
    if "rope_parameters" in found.changes:
        turned = found.changes["rope_parameters"]
        check_rotary(model, header, head_dim_of(header, config, {}), turned.get("full_attention", turned))
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    model.config.dtype = torch.bfloat16
    return model, info, list(found.notes)


def _end(model: Any, ids: list[int]) -> None:
    """Let an answer end at each of these tokens, also after the model was saved."""
    if ids:
        model.generation_config.eos_token_id = ids if len(ids) > 1 else ids[0]


def _link(file: Path, place: Path) -> None:
    for link in (os.link, os.symlink):
        with suppress(OSError):  # another disk, or no right to
            link(file, place)
            return
    shutil.copyfile(file, place)
