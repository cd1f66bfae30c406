"""Is this model folder or .gguf file safe and small enough to open? Decided from sizes, JSON and headers.

Reads no weights, runs nothing, knows no torch. It does not know whether tensor names and shapes fit the
architecture, nor what the configured model takes: count that on the meta device before allocating.
"""

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import psutil

MIB = 2**20
MEMORY_SHARE, MAX_TENSORS, MAX_SHARDS, MAX_NAME, MAX_ELEMENTS = 0.8, 100_000, 1000, 512, 2**48
MAX_HEADERS = 16 * MIB  # of all shards together, so that a thousand headers cannot add up
MAX_CONFIG, MAX_TOKENIZER, MAX_GGUF_HEADER, MAX_GGUF_PART = MIB, 64 * MIB, 256 * MIB, 16 * MIB
MAX_GGUF_ITEMS = 2_000_000  # in all arrays of a file together: readers turn each item into a Python object
CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # opening a pipe would otherwise last until somebody writes to it
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
TOKENIZERS = ("tokenizer", "vocab", "merges", "added_tok", "special_tok", "spiece", "sentencepiece", "chat_")
OTHER_CONFIGS = {f"{name}_config.json" for name in ("tokenizer", "generation", "processor", "preprocessor")}
# transformers would run the first two, and load the others beside or in place of the files checked here.
REFUSED_FILES = re.compile(r"(?is).*\.py|custom_generate|adapter_config\.json|shard-\d+-model-.*")
# Names of sizes in a config.json and, last in a row, in a .gguf file, with the range of each.
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention.head_count")
GROUPS = ("num_key_value_heads", "num_kv_heads", "attention.head_count_kv")
RANGES = {HEADS: (1, 1024), GROUPS: (1, 1024), ("vocab_size",): (1, 1_000_000),
          ("hidden_size", "n_embd", "n_embed", "d_model", "embedding_length"): (8, 65_536),
          ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "block_count"): (1, 512),
          ("max_position_embeddings", "n_positions", "n_ctx", "context_length"): (1, 4_000_000)}  # fmt: skip
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "BOOL": 1,  # name: bytes
          "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1}  # fmt: skip
GGML_TYPES = {  # number: name, elements in a block, bytes of a block
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 20: ("IQ4_NL", 32, 18), 28: ("F64", 1, 8),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 29: ("IQ1_M", 256, 56), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 30: ("BF16", 1, 2)}  # fmt: skip
GGUF_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 8: 0, 10: 8, 11: 8, 12: 8}  # kind: bytes
GGUF_SIGNED, GGUF_NOT_WHOLE, GGUF_STRING, GGUF_ARRAY = (1, 3, 5, 11), (6, 7, 12), 8, 9
Tensor = tuple[int, int, int, str]  # begin and length in bytes, number of elements, number format


class ModelRejected(ValueError):
    """Why a model was not opened: a short word for programs in `code`, and one sentence, always printable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in message))
        self.code = code


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """What the headers of an accepted model say."""

    path: Path
    kind: str  # "safetensors" | "gguf"
    architecture: str
    parameters: int
    tensor_bytes: int
    dtypes: frozenset[str]
    names: frozenset[str]


def check_folder(folder: Path) -> ModelFiles:
    """Refuse a safetensors folder that is damaged, hostile or of a kind that the explorer cannot open."""
    real = _real(folder)
    try:
        names = _entries(real)
    except OSError:
        raise ModelRejected("not-a-folder", f"{real.name} is not a folder that can be read.") from None
    config, *_ = _json(real / "config.json", MAX_CONFIG)
    _check_config(config, "config.json")
    for name in sorted(OTHER_CONFIGS & names):
        _check_config(_json(real / name, MAX_TOKENIZER)[0], name)
    return _summary(real, "safetensors", config[-1].get("model_type"), _weights(real, names))


def check_gguf(file: Path) -> ModelFiles:
    """Refuse a .gguf file whose header is damaged, hostile or does not fit the file."""
    real = _real(file)
    with _open(real) as (stream, size):
        return _summary(real, "gguf", *_gguf(stream, size, Path(file).name))


def check_memory(need_bytes: int, have_bytes: int | None = None) -> None:
    """Refuse what would take more than 80 % of the free memory, before anything is allocated."""
    have = free_bytes() if have_bytes is None else have_bytes
    if need_bytes > MEMORY_SHARE * have:
        need, free, share = f"{need_bytes / 1e9:.1f} GB", f"{have / 1e9:.1f} GB", f"{MEMORY_SHARE:.0%}"
        raise ModelRejected("memory", f"This needs {need} of memory, but only {share} of the free {free} may be used.")


def free_bytes() -> int:
    """Memory that can be taken: what the system has available, or less where a container sets a limit."""
    free = int(psutil.virtual_memory().available)
    lines = OWN_CGROUP.read_text().splitlines() if OWN_CGROUP.is_file() else []
    own = CGROUPS / next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), "")
    for group in (own, *own.parents):
        with suppress(OSError, ValueError):  # no such group here, or its limit is the word "max"
            limit, used = (int((group / f"memory.{part}").read_text()) for part in ("max", "current"))
            # Cached files count as used but give way; a fresh download would look like full memory.
            cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
            free = min(free, limit - used + (int(cached[1]) if cached else 0))
    return max(free, 0)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a whole file, as 64 hexadecimal digits."""
    with _open(_real(path)) as (file, _):
        return hashlib.file_digest(file, "sha256").hexdigest()


def _need(condition: object, code: str, otherwise: str) -> None:
    if not condition:
        raise ModelRejected(code, f"{otherwise}.")


def _summary(path: Path, kind: str, architecture: object, tensors: dict[str, Tensor]) -> ModelFiles:
    name = architecture if isinstance(architecture, str) else ""
    _need(re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name), "architecture", "The model does not say what it is")
    _, sizes, elements, dtypes = zip(*tensors.values(), strict=True)
    return ModelFiles(path=path, kind=kind, architecture=name, parameters=sum(elements),
                      tensor_bytes=sum(sizes), dtypes=frozenset(dtypes), names=frozenset(tensors))  # fmt: skip


def _real(path: Path) -> Path:
    try:
        return Path(os.path.realpath(path, strict=True))
    except (OSError, ValueError):
        raise ModelRejected("not-found", f"There is no {Path(path).name} here that can be opened.") from None


@contextmanager
def _open(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """A regular file and its size; system errors, also while it is read, become one sentence."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | NO_WAIT)) as file:
            status = os.fstat(file.fileno())
            _need(stat.S_ISREG(status.st_mode), "special-file", f"{path.name} is not an ordinary file")
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
        _need(inside, "outside-link", f"{name} is a link to a place outside the model's folder")
        fine = not REFUSED_FILES.fullmatch(name)
        _need(fine, "refused-file", f"{name} is a program, an adapter or a checkpoint, which is never opened")
        # A broken link passes: it matters only if its file is needed, and is then found missing.
        usual = target.is_file() or target.is_dir() or not target.exists()
        _need(usual, "special-file", f"{name} is not an ordinary file")
        large = target.is_file() and target.stat().st_size > MAX_TOKENIZER
        _need(not large or not name.lower().startswith(TOKENIZERS), "too-large", f"{name} exceeds 64 MiB")
    return names


def _json(path: Path, limit: int, header: bool = False) -> tuple[list[Any], int, int]:
    """Every object in a JSON file or safetensors header, the outermost last; its length and the file's."""
    with _open(path) as (file, size):
        length = int.from_bytes(file.read(8), "little") if header else size
        right = 2 <= length <= min(limit, size - 8 if header else size)
        _need(right, "json-length", f"{path.name} is cut off, or its JSON part is too long")
        raw = file.read(length)
    # Counted before parsing: a few MiB of empty brackets would become hundreds of MiB of Python objects.
    few = raw.count(b"{") <= MAX_TENSORS + 2 and raw.count(b",") <= 8 * MAX_TENSORS
    _need(few, "too-many", f"{path.name} lists too many things")
    objects: list[Any] = []
    try:
        value = json.loads(raw.decode(), object_hook=lambda one: objects.append(one) or one)  # type: ignore
        json.dumps(value, allow_nan=False)  # fails on NaN and infinity, also when written as 1e999
    except (ValueError, RecursionError):
        value = None
    _need(isinstance(value, dict), "bad-json", f"{path.name} is damaged: it is not JSON with finite numbers")
    return objects, length, size


def _check_config(parts: Iterable[dict[str, Any]], file: str) -> None:
    for part in parts:
        given = {key: value for key, value in part.items() if value is not None}
        asked = {key for key, value in given.items() if value is not False}
        _need(not asked & {"auto_map", "custom_generate"}, "code", f"{file} wants to run its own program")
        other = asked & {"configuration_files", "transformers_weights"}
        _need(not other, "redirect", f"{file} points to other files, which are not checked")
        whole = "quantization_config" not in asked
        _need(whole, "quantized", "This copy is already quantized; the explorer needs the original")
        _need("is_encoder_decoder" not in asked, "encoder-decoder", "Encoder-decoder models cannot be opened")
        known = all(given[key] in ("eager", "sdpa") for key in given if "attn_implementation" in key)
        _need(known, "attention", f"{file} asks for an attention program that is not built in")
        for names, (low, high) in RANGES.items():
            for key in given.keys() & set(names):
                fits = type(given[key]) is int and low <= given[key] <= high
                _need(fits, "size-range", f"{file} must give {key} as a whole number from {low} to {high}")
        even = all(given.get(heads, 0) % given.get(groups, 1) == 0 for heads in HEADS for groups in GROUPS)
        _need(even, "size-heads", f"{file} has key-value heads that do not divide the attention heads evenly")


def _weights(folder: Path, names: set[str]) -> dict[str, Tensor]:
    """All tensors of the safetensors files that a loader would pick."""
    index, single = "model.safetensors.index.json", "model.safetensors"
    listed: dict[str, set[str]] = {single: set()}  # file: the tensors that must be in it
    if single not in names:
        pickled = index not in names and any(name.lower().endswith(PICKLES) for name in names)
        danger = "The weights are only in pickle files, which can run hidden programs; look for .safetensors"
        _need(not pickled, "pickle", danger)
        _need(index in names, "no-weights", f"This folder has no {single} file with the weights")
        listed, places = {}, _json(folder / index, MAX_HEADERS)[0][-1].get("weight_map")
        _need(isinstance(places, dict) and places, "bad-index", f"{index} does not say what is in which file")
        for name, shard in places.items():
            plain = isinstance(shard, str) and re.fullmatch(r"[\w.-]+\.safetensors", shard, re.ASCII)
            _need(plain, "shard-name", f"{index} names something other than .safetensors files")
            listed.setdefault(shard, set()).add(name)
    _need(len(listed) <= MAX_SHARDS, "too-many", f"The weights are in more than {MAX_SHARDS} files")
    tensors, room = dict[str, Tensor](), MAX_HEADERS
    for shard, expected in sorted(listed.items()):
        found, length = _safetensors(folder / shard, room)
        _need(expected <= found.keys(), "tensor-missing", f"{shard} lacks tensors that {index} lists")
        _need(tensors.keys().isdisjoint(found), "repeated-name", f"{shard} repeats a tensor of another file")
        tensors.update(found)
        room -= length
        _need(len(tensors) <= MAX_TENSORS, "too-many", f"{shard} has too many tensors")
    return tensors


def _safetensors(path: Path, room: int) -> tuple[dict[str, Tensor], int]:
    """The tensors of one safetensors file and the length of its header, which is at most `room`."""
    bad = f"{path.name} is damaged:"
    (*_, header), length, size = _json(path, room, header=True)
    notes = header.pop("__metadata__", {})
    plain = isinstance(notes, dict) and {type(note) for note in notes.values()} <= {str}
    _need(plain, "bad-header", f"{bad} its notes are not text")
    tensors: dict[str, Tensor] = {}
    for name, about in header.items():
        _need(1 <= len(name) <= MAX_NAME, "tensor-name", f"{bad} a tensor has no name or too long a name")
        known = isinstance(about, dict) and about.keys() == {"dtype", "shape", "data_offsets"}
        _need(known, "bad-header", f"{bad} a tensor lacks dtype, shape or data_offsets")
        dtype, shape, offsets = about["dtype"], about["shape"], about["data_offsets"]
        _need(isinstance(dtype, str) and dtype in DTYPES, "tensor-dtype", f"{bad} a number format is unknown")
        lists = {type(shape), type(offsets)} == {list} and len(shape) <= 8 and len(offsets) == 2
        sane = lists and all(type(number) is int and 0 <= number < 2**63 for number in shape + offsets)
        _need(sane, "tensor-shape", f"{bad} the shape or place of a tensor is impossible")
        elements, span = math.prod(shape), math.prod(shape) * DTYPES[dtype]
        fits = elements < MAX_ELEMENTS and offsets[1] - offsets[0] == span
        _need(fits, "tensor-length", f"{bad} a tensor has a length that does not fit its shape")
        tensors[name] = offsets[0], span, elements, dtype
    end = 0
    for begin, span, *_ in sorted(tensors.values()):
        _need(begin == end, "tensor-place", f"{bad} its tensors overlap or leave a hole")
        end += span
    _need(tensors and end == size - 8 - length, "file-size", f"{bad} its tensors do not fill it exactly")
    return tensors, length


class _Reader:
    """Takes bytes from the start of a .gguf file, and never more than are left."""

    def __init__(self, file: BufferedReader, size: int, name: str) -> None:
        self.file, self.left, self.items, self.bad = file, size, MAX_GGUF_ITEMS, f"{name} is damaged:"

    def take(self, count: int) -> bytes:
        if count > self.left or count > MAX_GGUF_PART:
            raise ModelRejected("truncated", f"{self.bad} it ends too early, or a part of it is too long.")
        self.left -= count
        return self.file.read(count)

    def number(self, count: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(count), "little", signed=signed)

    def text(self) -> str:
        return self.take(self.number(8))[: MAX_NAME + 1].decode("ascii", "replace")

    def name(self, taken: Collection[str]) -> str:
        name = self.text()
        _need(0 < len(name) <= MAX_NAME and name.isascii(), "gguf-text", f"{self.bad} a name is impossible")
        _need(name not in taken, "repeated-name", f"{self.bad} it has a name twice")
        return name

    def value(self, kind: int) -> int | str | None:
        """A whole number or the start of a text; of other kinds of value only the end matters here."""
        if kind == GGUF_STRING:
            return self.text()
        if kind != GGUF_ARRAY:
            _need(kind in GGUF_BYTES, "gguf-kind", f"{self.bad} a value is of unknown kind")
            number = self.number(GGUF_BYTES[kind], kind in GGUF_SIGNED)
            return None if kind in GGUF_NOT_WHOLE else number
        kind, count = self.number(4), self.number(8)
        self.items -= count
        _need(self.items >= 0 and kind in GGUF_BYTES, "gguf-array", f"{self.bad} an array is too long or odd")
        self.take(count * GGUF_BYTES[kind])
        for _ in range(count if kind == GGUF_STRING else 0):
            self.take(self.number(8))
        return None


def _gguf(file: BufferedReader, size: int, name: str) -> tuple[object, dict[str, Tensor]]:
    """Architecture and tensors, from the header of a .gguf file."""
    reader = _Reader(file, room := min(size, MAX_GGUF_HEADER), name)
    number, bad = reader.number, reader.bad
    _need(reader.take(4) == b"GGUF", "gguf-magic", f"{bad} it does not start with GGUF")
    _need(number(4) in (2, 3), "gguf-version", f"{bad} its version is not 2 or 3, or it is big-endian")
    tensor_count, value_count = number(8), number(8)
    _need(max(tensor_count, value_count) <= 2**16, "too-many", f"{bad} it lists too many things")
    values: dict[str, Any] = {}
    for _ in range(value_count):
        key = reader.name(values)
        values[key] = reader.value(number(4))
    architecture, alignment = values.get("general.architecture"), values.get("general.alignment", 32)
    own = f"{architecture}."
    _check_config([{key.removeprefix(own): values[key] for key in values if key.startswith(own)}], name)
    _need(values.get("split.count") in (None, 0, 1), "gguf-split", f"{name} is one part of a split model")
    _need(alignment in {8 << power for power in range(10)}, "gguf-alignment", f"{bad} its alignment is wrong")
    tensors: dict[str, Tensor] = {}
    for _ in range(tensor_count):
        key, dimensions = reader.name(tensors), number(4)
        _need(1 <= dimensions <= 4, "tensor-shape", f"{bad} a tensor has not 1 to 4 dimensions")
        shape = [number(8) for _ in range(dimensions)]
        elements, kind, begin = math.prod(shape), number(4), number(8)
        _need(kind in GGML_TYPES, "tensor-dtype", f"{bad} a number format is unknown")
        dtype, block, span = GGML_TYPES[kind]
        sane = 0 < elements < MAX_ELEMENTS and shape[0] % block == 0
        _need(sane, "tensor-shape", f"{bad} a tensor has an impossible shape")
        tensors[key] = begin, elements // block * span, elements, dtype
    end = 0
    for begin, span, *_ in sorted(tensors.values()):
        _need(end <= begin, "tensor-place", f"{bad} its tensors overlap")
        end = begin + span
    start = -(-(room - reader.left) // alignment) * alignment
    _need(tensors and start + end <= size, "file-size", f"{bad} it ends before its tensors do")
    return architecture, tensors
