"""Is this model folder safe and small enough to open? Decided from sizes, JSON and headers. What is here by a public
name is shared with `gguf_header`, which asks the same of a .gguf file.

Reads no weights, runs nothing, knows no torch. It does not know whether tensor names and shapes fit the
architecture, nor what the configured model takes: count that on the meta device before allocating.
"""

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any

MIB = 2**20
MAX_CONFIG, MAX_TOKENIZER = MIB, 64 * MIB
MAX_HEADERS = 16 * MIB  # of all shards together, so that a thousand headers cannot add up
MAX_SHARDS, MAX_TENSORS = 1000, 100_000
MAX_NAME = 512  # characters of a tensor's name
MAX_ELEMENTS = 2**48  # of a tensor
POINTER = b"version https://git-lfs.github.com/spec/"  # what Git leaves in place of a large file
NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # opening a pipe would otherwise last until somebody writes to it
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
TOKENIZERS = ("tokenizer", "vocab", "merges", "added_tok", "special_tok", "spiece", "sentencepiece", "chat_")
OTHER_CONFIGS = {f"{name}_config.json" for name in ("tokenizer", "generation", "processor", "preprocessor")}
# transformers would run the first two, and load the others beside or in place of the files checked here.
REFUSED_FILES = re.compile(r"(?is).*\.py|custom_generate|adapter_config\.json|shard-\d+-model-.*")
# Names of sizes in a config.json and, last in a row, in a .gguf file, with the range of each.
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention.head_count")
GROUPS = ("num_key_value_heads", "num_kv_heads", "attention.head_count_kv")
RANGES = {
    HEADS: (1, 1024),
    GROUPS: (1, 1024),
    ("vocab_size",): (1, 1_000_000),
    ("hidden_size", "n_embd", "n_embed", "d_model", "embedding_length"): (8, 65_536),
    ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "block_count"): (1, 512),
    ("max_position_embeddings", "n_positions", "n_ctx", "context_length"): (1, 4_000_000),
}
DTYPES = {  # name: bytes
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "BOOL": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1,
}  # fmt: skip
Tensor = tuple[int, int, int, str]  # begin and length in bytes, number of elements, number format


class ModelRejected(ValueError):
    """Why a model was not opened: a short word for programs in `code`, and one sentence, always printable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in message))
        self.code = code


@contextmanager
def refusing(code: str, words: str) -> Iterator[None]:
    """Whatever goes wrong inside is a ModelRejected: `words`, and the first line of what went wrong."""
    try:
        yield
    except Exception as error:  # the libraries raise many kinds for a broken or unknown model
        raise ModelRejected(code, f"{words}: {first_line(error)}") from None


def first_line(error: BaseException | str) -> str:
    """At most 200 characters; the kind of an error that says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """What the headers of an accepted model say."""

    architecture: str
    tensors: Mapping[str, Tensor]
    quantization: Any = None  # what the config says of it, unchecked

    @property
    def parameters(self) -> int:
        return sum(elements for _, _, elements, _ in self.tensors.values())

    @property
    def tensor_bytes(self) -> int:
        return sum(self.bytes_by_format.values())

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.tensors)

    @property
    def dtypes(self) -> frozenset[str]:
        return frozenset(self.bytes_by_format)

    @property
    def bytes_by_format(self) -> dict[str, int]:
        """Bytes of all tensors in each number format."""
        found: dict[str, int] = {}
        for _, length, _, dtype in self.tensors.values():
            found[dtype] = found.get(dtype, 0) + length
        return found


def check_folder(folder: Path, quantized: bool = False) -> ModelFiles:
    """Refuse a safetensors folder that is damaged, hostile or of a kind that the explorer cannot open; one that says
    how it is quantized too, unless the caller can judge that (see `quantized`)."""
    real = real_path(folder)
    try:
        names = _entries(real)
    except OSError:
        raise ModelRejected("not-a-folder", f"{real.name} is not a folder that can be read.") from None
    config, *_ = _json(real / "config.json", MAX_CONFIG)
    check_config(config, "config.json")
    for name in sorted(OTHER_CONFIGS & names):
        check_config(_json(real / name, MAX_TOKENIZER)[0], name)
    keys = ("quantization_config", "quantization")
    how = next((part[k] for k in keys for part in config if part.get(k) not in (None, False)), None)
    require(quantized or how is None, "quantized", "This copy is already quantized; the explorer needs the original")
    return replace(summary(config[-1].get("model_type"), _weights(real, names)), quantization=how)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a whole file, as 64 hexadecimal digits."""
    with open_file(real_path(path)) as (file, _):
        return hashlib.file_digest(file, "sha256").hexdigest()


def require(condition: object, code: str, otherwise: str) -> None:
    """ModelRejected, with the sentence `otherwise`, where the condition does not hold."""
    if not condition:
        raise ModelRejected(code, f"{otherwise}.")


def summary(architecture: object, tensors: dict[str, Tensor]) -> ModelFiles:
    """From what a header says of an architecture and of each tensor."""
    name = architecture if isinstance(architecture, str) else ""
    require(re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name), "architecture", "The model does not say what it is")
    return ModelFiles(architecture=name, tensors=tensors)


def real_path(path: Path) -> Path:
    """Where links lead to; ModelRejected where there is nothing."""
    try:
        return Path(os.path.realpath(path, strict=True))
    except (OSError, ValueError):
        raise ModelRejected("not-found", f"There is no {Path(path).name} here that can be opened.") from None


@contextmanager
def open_file(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """A regular file and its size; system errors, also while it is read, become one sentence."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | NO_WAIT)) as file:
            status = os.fstat(file.fileno())
            require(stat.S_ISREG(status.st_mode), "special-file", f"{path.name} is not an ordinary file")
            pointer = file.peek(len(POINTER)).startswith(POINTER)
            lfs = f"{path.name} is a Git LFS pointer, not the file itself; fetch it with git lfs pull"
            require(not pointer, "git-lfs", lfs)
            yield file, status.st_size
    except OSError:
        raise ModelRejected("unreadable", f"{path.name} is missing or cannot be read.") from None


def _entries(folder: Path) -> set[str]:
    """Names in a folder in which nothing runs, blocks or leads elsewhere."""
    homes = [folder]
    if folder.parent.name == "snapshots":
        # The Hugging Face cache: links to the repository's blobs, and on to blobs that repositories share.
        homes = [folder.parent.parent, folder.parent.parent.parent / "blobs"]
    names = set(os.listdir(folder))
    for name in sorted(names):
        target = Path(os.path.realpath(folder / name))
        inside = any(target.is_relative_to(home) for home in homes)
        require(inside, "outside-link", f"{name} is a link to a place outside the model's folder")
        fine = not REFUSED_FILES.fullmatch(name)
        require(fine, "refused-file", f"{name} is a program, an adapter or a checkpoint, which is never opened")
        # A broken link passes: it matters only if its file is needed, and is then found missing.
        usual = target.is_file() or target.is_dir() or not target.exists()
        require(usual, "special-file", f"{name} is not an ordinary file")
        large = target.is_file() and target.stat().st_size > MAX_TOKENIZER
        require(not large or not name.lower().startswith(TOKENIZERS), "too-large", f"{name} exceeds 64 MiB")
    return names


def _json(path: Path, limit: int, header: bool = False) -> tuple[list[Any], int, int]:
    """Every object in a JSON file or safetensors header, the outermost last; its length and the file's."""
    with open_file(path) as (file, size):
        length = int.from_bytes(file.read(8), "little") if header else size
        right = 2 <= length <= min(limit, size - 8 if header else size)
        require(right, "json-length", f"{path.name} is cut off, or its JSON part is too long")
        raw = file.read(length)
    # Counted before parsing: a few MiB of empty brackets would become hundreds of MiB of Python objects.
    few = raw.count(b"{") <= MAX_TENSORS + 2 and raw.count(b",") <= 8 * MAX_TENSORS
    require(few, "too-many", f"{path.name} lists too many things")
    objects: list[Any] = []
    try:
        value = json.loads(raw.decode(), object_hook=lambda one: objects.append(one) or one)  # type: ignore
        json.dumps(value, allow_nan=False)  # fails on NaN and infinity, also when written as 1e999
    except (ValueError, RecursionError):
        value = None
    require(isinstance(value, dict), "bad-json", f"{path.name} is damaged: it is not JSON with finite numbers")
    return objects, length, size


def check_config(parts: Iterable[dict[str, Any]], file: str) -> None:
    """Refuse sizes that cannot be, and what would run code; `parts` are all objects in the config, nested ones too."""
    for part in parts:
        given = {key: value for key, value in part.items() if value is not None}
        asked = {key for key, value in given.items() if value is not False}
        require(not asked & {"auto_map", "custom_generate"}, "code", f"{file} wants to run its own program")
        other = asked & {"configuration_files", "transformers_weights"}
        require(not other, "redirect", f"{file} points to other files, which are not checked")
        require("is_encoder_decoder" not in asked, "encoder-decoder", "Encoder-decoder models cannot be opened")
        known = all(given[key] in ("eager", "sdpa") for key in given if "attn_implementation" in key)
        require(known, "attention", f"{file} asks for an attention program that is not built in")
        for names, (low, high) in RANGES.items():
            for key in given.keys() & set(names):
                fits = type(given[key]) is int and low <= given[key] <= high
                require(fits, "size-range", f"{file} must give {key} as a whole number from {low} to {high}")
        even = all(given.get(heads, 0) % given.get(groups, 1) == 0 for heads in HEADS for groups in GROUPS)
        require(even, "size-heads", f"{file} has key-value heads that do not divide the attention heads evenly")


def _weights(folder: Path, names: set[str]) -> dict[str, Tensor]:
    """All tensors of the safetensors files that a loader would pick."""
    index, single = "model.safetensors.index.json", "model.safetensors"
    listed: dict[str, set[str]] = {single: set()}  # file: the tensors that must be in it
    if single not in names:
        pickled = index not in names and any(name.lower().endswith(PICKLES) for name in names)
        danger = "The weights are only in pickle files, which can run hidden programs; look for .safetensors"
        require(not pickled, "pickle", danger)
        require(index in names, "no-weights", f"This folder has no {single} file with the weights")
        listed, places = {}, _json(folder / index, MAX_HEADERS)[0][-1].get("weight_map")
        require(isinstance(places, dict) and places, "bad-index", f"{index} does not say what is in which file")
        for name, shard in places.items():
            plain = isinstance(shard, str) and re.fullmatch(r"[\w.-]+\.safetensors", shard, re.ASCII)
            require(plain, "shard-name", f"{index} names something other than .safetensors files")
            listed.setdefault(shard, set()).add(name)
    require(len(listed) <= MAX_SHARDS, "too-many", f"The weights are in more than {MAX_SHARDS} files")
    tensors, room = dict[str, Tensor](), MAX_HEADERS
    for shard, expected in sorted(listed.items()):
        found, length = _safetensors(folder / shard, room)
        require(expected <= found.keys(), "tensor-missing", f"{shard} lacks tensors that {index} lists")
        require(tensors.keys().isdisjoint(found), "repeated-name", f"{shard} repeats a tensor of another file")
        tensors.update(found)
        room -= length
        require(len(tensors) <= MAX_TENSORS, "too-many", f"{shard} has too many tensors")
    return tensors


def _safetensors(path: Path, room: int) -> tuple[dict[str, Tensor], int]:
    """The tensors of one safetensors file and the length of its header, which is at most `room`."""
    bad = f"{path.name} is damaged:"
    (*_, header), length, size = _json(path, room, header=True)
    notes = header.pop("__metadata__", {})
    plain = isinstance(notes, dict) and {type(note) for note in notes.values()} <= {str}
    require(plain, "bad-header", f"{bad} its notes are not text")
    tensors: dict[str, Tensor] = {}
    for name, about in header.items():
        require(1 <= len(name) <= MAX_NAME, "tensor-name", f"{bad} a tensor has no name or too long a name")
        known = isinstance(about, dict) and about.keys() == {"dtype", "shape", "data_offsets"}
        require(known, "bad-header", f"{bad} a tensor lacks dtype, shape or data_offsets")
        dtype, shape, offsets = about["dtype"], about["shape"], about["data_offsets"]
        require(isinstance(dtype, str) and dtype in DTYPES, "tensor-dtype", f"{bad} a number format is unknown")
        lists = {type(shape), type(offsets)} == {list} and len(shape) <= 8 and len(offsets) == 2
        sane = lists and all(type(number) is int and 0 <= number < 2**63 for number in shape + offsets)
        require(sane, "tensor-shape", f"{bad} the shape or place of a tensor is impossible")
        elements, span = math.prod(shape), math.prod(shape) * DTYPES[dtype]
        fits = elements < MAX_ELEMENTS and offsets[1] - offsets[0] == span
        require(fits, "tensor-length", f"{bad} a tensor has a length that does not fit its shape")
        tensors[name] = offsets[0], span, elements, dtype
    end = 0
    for begin, span, *_ in sorted(tensors.values()):
        require(begin == end, "tensor-place", f"{bad} its tensors overlap or leave a hole")
        end += span
    require(tensors and end == size - 8 - length, "file-size", f"{bad} its tensors do not fill it exactly")
    return tensors, length
