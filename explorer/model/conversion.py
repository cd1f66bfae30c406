"""A .gguf file, decoded once into a folder that opens like any other."""

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from explorer.files import cache_folder
from explorer.model.gguf_header import check_gguf
from explorer.model.loaders import model_of, quiet, tokenizer_of
from explorer.model.memory import check_memory
from explorer.model.preflight import file_sha256, refusing
from explorer.model.whole import check_whole, gguf_info
from explorer.values.progress import Telling

VERSION = 2  # of how files of any origin are decoded and checked: what an earlier one kept is made anew

Step = Callable[[Callable[[], Any]], Any]  # runs one piece of work where torch may work, see `Workbench.step`


def kept_for(gguf: Path) -> Path:
    """The folder that a file of this content is decoded into."""
    models, sha = cache_folder() / "models", file_sha256(gguf)[:16]
    shutil.rmtree(models / f"gguf-{sha}", ignore_errors=True)  # by version 1, which checked nothing
    return models / f"gguf{VERSION}-{sha}"


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
    model, tokenizer = _decoded(gguf)
    # the weights are decoded now; transformers would refuse to save what it takes for a quantized model
    del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    folder.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        model.config.name_or_path = ""
        with quiet():
            model.save_pretrained(half)
            tokenizer.save_pretrained(half)
        if not (folder / "model.safetensors").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # another process was first, and its folder is as good
                half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _decoded(gguf: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file, which is opened alone in a folder: transformers would also read configs that
    lie beside it, and nobody checked those. ModelRejected where it is not all there, or has values that cannot be."""
    files = check_gguf(gguf)
    with tempfile.TemporaryDirectory(prefix="size-explorer-", ignore_cleanup_errors=True) as folder, quiet():
        with refusing("cannot-open", f"The file {gguf.name} cannot be opened"):
            alone = Path(folder) / "model.gguf"
            _link(gguf.resolve(), alone)
            model, info = model_of(alone.parent, gguf_file=alone.name, dtype=torch.bfloat16)
            info = gguf_info(model, info, files)
            tokenizer = tokenizer_of(alone.parent, gguf_file=alone.name)
    check_whole(model, info)
    return model, tokenizer


def _link(file: Path, place: Path) -> None:
    for link in (os.link, os.symlink):
        with suppress(OSError):  # another disk, or no right to
            link(file, place)
            return
    shutil.copyfile(file, place)
