"""A folder → its model and tokenizer, ready to run; or a name, by way of its place. Knows nothing of compression."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explorer.layers.uniform import uniform
from explorer.model.loaders import empty_model_of, model_of, quiet, tokenizer_of
from explorer.model.memory import check_memory
from explorer.model.places import DEFAULT, Place, locate
from explorer.model.preflight import check_folder, refusing
from explorer.model.trial import check_causal, check_decoder
from explorer.model.whole import check_whole
from explorer.values.progress import told

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Loaded(Place):
    """A model ready to run."""

    model: nn.Module
    tokenizer: Any


def load(name: str = DEFAULT, *, device: str = "cpu", say: Say = lambda _: None) -> Loaded:
    """Open a causal language model by folder, .gguf file or Hub name. ModelRejected in one plain sentence."""
    return open_place(told(locate(name), say), device=device, say=say)


def open_place(place: Place, *, device: str = "cpu", say: Say = lambda _: None) -> Loaded:
    """The model of a folder. ModelRejected in one plain sentence."""
    files = check_folder(place.folder)
    check_decoder(files.architecture)
    dtype = _dtype(files.dtypes, device)
    check_memory(files.parameters * dtype.itemsize + files.tensor_bytes)
    say(f"Opening {place.name}: {files.parameters / 1e6:,.0f} M parameters.")
    model = _ready(_open(place.folder, dtype).to(device))
    check_causal(model)
    return Loaded(model=model, tokenizer=open_tokenizer(place.folder), **vars(place))


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder that passed the preflight."""
    with refusing("tokenizer", f"The tokenizer in {folder.name} cannot be opened"):
        return tokenizer_of(folder)


def structure(folder: Path) -> nn.Module:
    """The model that a folder's config describes, without memory for its weights (they are on the meta device)."""
    return _ready(empty_model_of(folder))


def _open(folder: Path, dtype: torch.dtype) -> nn.Module:
    kind = json.loads((folder / "config.json").read_text()).get("model_type", "?")
    with quiet(), refusing("cannot-open", f"transformers cannot open this model (type {kind!r})"):
        model, info = model_of(folder, dtype=dtype, use_safetensors=True, disable_mmap=True)
    check_whole(model, info)
    for parameter in model.parameters():  # as views of the file they begin anywhere, and products are 5 % slower
        parameter.data = parameter.data.clone()
    return model  # type: ignore[no-any-return]


def _ready(model: nn.Module) -> nn.Module:
    """No gradients, no dropout, layers of one kind, and none that its family changes in place (RWKV)."""
    if hasattr(model.config, "rescale_every"):
        model.config.rescale_every = 0  # type: ignore[union-attr, assignment]
    return uniform(model).eval().requires_grad_(False)


def _dtype(stored: frozenset[str], device: str) -> torch.dtype:
    """float32 stays; half precision is bfloat16 on the CPU, where float16 products are very slow."""
    if stored & {"F32", "F64"}:
        return torch.float32
    return torch.float16 if "F16" in stored and device != "cpu" else torch.bfloat16
