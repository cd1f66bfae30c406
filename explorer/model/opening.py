"""A folder → its model and tokenizer, ready to run; or a name, by way of its place. Knows nothing of compression."""

import copy
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explorer.layers.uniform import uniform
from explorer.model import extras, quantized
from explorer.model.chat import try_out
from explorer.model.dtypes import check_numbers, conversions, dtype_of
from explorer.model.loaders import decoded_model_of, empty_model_of, filled_model_of, model_of, quiet, tokenizer_of
from explorer.model.memory import check_memory
from explorer.model.places import DEFAULT, Place, locate
from explorer.model.preflight import ModelFiles, ModelRejected, check_folder, refusing
from explorer.model.tokens import check_rows
from explorer.model.trial import check_causal, check_decoder
from explorer.model.unpacking import unpacked
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
    files = check_folder(place.folder, quantized=True)
    check_decoder(files.architecture)
    method = quantized.decodable(place.folder, files)
    dtype = torch.bfloat16 if method else dtype_of(files)
    parameters = _count(place.folder) if method else files.parameters
    check_memory(parameters * dtype.itemsize + files.tensor_bytes)
    say(f"Opening {place.name}: {parameters / 1e6:,.0f} M parameters.")
    tokenizer = open_tokenizer(place.folder)
    with ThreadPoolExecutor(1) as beside:
        chat = beside.submit(try_out, tokenizer)  # takes a second, in a process of its own
        model, notes = _opened(place.folder, files, dtype, method, device)
    check_rows(tokenizer, model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
    about = vars(place) | {"note": " ".join(filter(None, [place.note, *notes, chat.result()]))}
    return Loaded(model=model, tokenizer=tokenizer, **about)


def _opened(
    folder: Path, files: ModelFiles, dtype: torch.dtype, method: str, device: str
) -> tuple[nn.Module, list[str]]:
    """`_open`; in bfloat16 what overflows in float16."""
    try:
        return _open(folder, files, dtype, method, device)
    except ModelRejected as rejected:
        if rejected.code != "overflow" or dtype != torch.float16:
            raise
        model, notes = _open(folder, files, torch.bfloat16, method, device)
        notes.append("In float16 its predictions are not numbers.")
    return model, notes


@torch.no_grad()
def adopt(model: Any, tokenizer: Any) -> Loaded:
    """A model that somebody has in memory: its weights are shared, its modules and settings are not, so that nothing
    done here shows there. ModelRejected in one plain sentence."""
    if not isinstance(model, nn.Module) or not hasattr(model, "config") or not hasattr(model, "get_input_embeddings"):
        raise ModelRejected("no-model", "A causal language model of transformers and its tokenizer are needed.")
    if not callable(tokenizer) or not hasattr(tokenizer, "get_vocab"):
        raise ModelRejected("no-tokenizer", "The model's tokenizer is needed as well.")
    shared: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    mine = _ready(copy.deepcopy(model, shared | {id(buffer): buffer for buffer in model.buffers()}))
    check_rows(tokenizer, mine.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
    check_causal(mine)
    name = str(getattr(model.config, "name_or_path", "") or type(model).__name__)
    return Loaded(model=mine, tokenizer=tokenizer, name=name, source="memory", folder=Path(), note=try_out(tokenizer))


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder that passed the preflight."""
    with refusing("tokenizer", f"The tokenizer in {folder.name} cannot be opened"):
        return tokenizer_of(folder)


def structure(folder: Path) -> nn.Module:
    """The model that a folder's config describes, without memory for its weights (they are on the meta device)."""
    return _ready(empty_model_of(folder))


def _count(folder: Path) -> int:
    """Weights of the model that a folder's config describes."""
    with refusing("cannot-open", f"The config in {folder.name} cannot be used"):
        return sum(parameter.numel() for parameter in empty_model_of(folder).parameters())


def _open(folder: Path, files: ModelFiles, dtype: torch.dtype, method: str, device: str) -> tuple[nn.Module, list[str]]:
    """The model, and what must be said about how it came from its files, which hold it quantized by a `method`."""
    kind = json.loads((folder / "config.json").read_text()).get("model_type", "?")
    with quiet(), refusing("cannot-open", f"transformers cannot open this model (type {kind!r})"):
        options = {"dtype": dtype, "use_safetensors": True, "disable_mmap": True}
        if method == "bitsandbytes":
            model, info = filled_model_of(folder, unpacked(folder, dtype), **options)
        else:
            model, info = (decoded_model_of if method else model_of)(folder, **options)
    extra = extras.left_out(files, model, info["unexpected_keys"])
    spare = frozenset(chain.from_iterable(extra.values()))
    check_whole(model, {**info, "unexpected_keys": set(info["unexpected_keys"]) - spare})
    if method:
        notes = [quantized.note(method)]
    else:
        check_numbers(files, model)
        notes = list(conversions(files, model, dtype, spare))
    notes += [extras.note(extra), extras.untie(model)]
    for parameter in model.parameters():  # as views of the file they begin anywhere, and products are 5 % slower
        parameter.data = parameter.data.clone()
    model = _ready(model.to(device))
    check_causal(model)
    return model, notes


def _ready(model: nn.Module) -> nn.Module:
    """No gradients, no dropout, layers of one kind, and none that its family changes in place (RWKV)."""
    if hasattr(model.config, "rescale_every"):
        model.config.rescale_every = 0  # type: ignore[union-attr, assignment]
    return uniform(model).eval().requires_grad_(False)
