"""Is this model folder or .gguf file safe and small enough to open? Decided from sizes, small JSON files and headers.

It reads no weights, runs nothing from the folder and knows no torch. It does not know whether tensor names and shapes
fit the architecture, nor what the configured model would take: count that on the meta device before allocating.
"""

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import psutil

MIB = 2**20
MAX_CONFIG_BYTES, MAX_TOKENIZER_BYTES = MIB, 64 * MIB
MAX_HEADER_BYTES = 16 * MIB  # of all shards together, so that a thousand headers cannot add up
MAX_TENSORS, MAX_SHARDS, MAX_NAME, MAX_ELEMENTS = 100_000, 1000, 512, 2**48
MAX_GGUF_ENTRIES, MAX_GGUF_STRING = 65_536, 16 * MIB
MAX_GGUF_ITEMS = 4 * MIB  # in all arrays of a file together: readers turn each item into a Python object
MEMORY_SHARE = 0.8
CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
OTHER_CONFIGS = ("tokenizer_config", "generation_config", "processor_config", "preprocessor_config")
TOKENIZERS = ("tokenizer", "vocab", "merges", "added_tokens", "special_tokens", "spiece", "sentencepiece", "chat_")

# The whole numbers of a config.json, and behind them of a .gguf file, with their ranges.
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "block_count")
HIDDEN = ("hidden_size", "n_embd", "n_embed", "d_model", "embedding_length")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention.head_count")
KEY_VALUE_HEADS = ("num_key_value_heads", "num_kv_heads", "attention.head_count_kv")
INNER = ("intermediate_size", "ffn_dim", "n_inner", "feed_forward_length")
RANGES: dict[tuple[str, ...], tuple[int, int]] = {
    LAYERS: (1, 512),
    HIDDEN: (8, 65_536),
    HEADS: (1, 1024),
    KEY_VALUE_HEADS: (1, 1024),
    INNER: (1, MIB),
    ("vocab_size",): (1, 1_000_000),
    ("max_position_embeddings", "n_positions", "n_ctx", "context_length"): (1, 4_000_000),
    ("head_dim",): (1, 8192),
    ("num_experts", "num_local_experts", "n_routed_experts", "expert_count"): (0, 4096),
}

DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4,
               "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
GGML_TYPES = {  # number: name, elements in a block, bytes of a block
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
}
GGUF_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # value type: bytes
GGUF_SIGNED, GGUF_NOT_WHOLE, GGUF_STRING, GGUF_ARRAY = (1, 3, 5, 11), (6, 7, 12), 8, 9


class ModelRejected(ValueError):
    """Why a model was not opened: one plain sentence, and a short word for programs in `code`."""

    def __init__(self, message: str, code: str = "rejected") -> None:
        # Names come from the file: control and direction characters must not reach a page or a log.
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


class _Tensor(NamedTuple):
    dtype: str
    elements: int
    begin: int
    size: int


def check_folder(folder: Path) -> ModelFiles:
    """Refuse a safetensors folder that is damaged, hostile or of a kind that the explorer cannot open."""
    real = _real(folder)
    try:
        names = _check_entries(real)
    except NotADirectoryError:
        raise ModelRejected(f"{real.name} is not a folder.", "not-a-folder") from None
    except OSError:
        raise ModelRejected(f"The folder {real.name} cannot be read.", "unreadable") from None
    architecture = _check_config(_json_file(real / "config.json", MAX_CONFIG_BYTES))
    for name in (f"{config}.json" for config in OTHER_CONFIGS if f"{config}.json" in names):
        for part in _objects(_json_file(real / name, MAX_TOKENIZER_BYTES)):
            _check_code(part, name)
    return _summary(real, "safetensors", architecture, _weights(real, names))


def check_gguf(file: Path) -> ModelFiles:
    """Refuse a .gguf file whose header is damaged, hostile or does not fit the file."""
    real = _real(file)
    with _open(real) as (stream, size):
        architecture, tensors = _gguf(_Reader(stream, size, Path(file).name))
    return _summary(real, "gguf", architecture, tensors)


def check_memory(need_bytes: int, have_bytes: int | None = None) -> None:
    """Refuse what would take more than 80 % of the free memory, before anything is allocated."""
    have = free_bytes() if have_bytes is None else have_bytes
    _need(need_bytes <= MEMORY_SHARE * have, f"This needs about {need_bytes / 1e9:.1f} GB of memory, but only "
          f"{have / 1e9:.1f} GB is free here, and the explorer takes at most {MEMORY_SHARE:.0%} of that", "memory")


def free_bytes() -> int:
    """Memory that can still be taken here: what the system has available, or less where a container sets a limit."""
    free = int(psutil.virtual_memory().available)
    try:
        lines = OWN_CGROUP.read_text().splitlines()
    except OSError:
        lines = []
    own = CGROUPS / next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), "")
    for group in (own, *own.parents):
        try:
            limit, used = (int((group / f"memory.{part}").read_text()) for part in ("max", "current"))
            # Cached files count as used but give way; otherwise a fresh download would look like a full memory.
            cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
        except (OSError, ValueError):  # no such group here, or its limit is the word "max"
            continue
        free = min(free, limit - used + (int(cached[1]) if cached else 0))
    return max(free, 0)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a whole file, as 64 hexadecimal digits."""
    with _open(_real(path)) as (file, _):
        return hashlib.file_digest(file, "sha256").hexdigest()


def _need(condition: bool, otherwise: str, code: str) -> None:
    if not condition:
        raise ModelRejected(f"{otherwise}.", code)


def _intact(condition: bool, file: str, otherwise: str, code: str) -> None:
    if not condition:
        raise ModelRejected(f"{file} is damaged or not a model file: {otherwise}.", code)


def _summary(path: Path, kind: str, architecture: str, tensors: dict[str, _Tensor]) -> ModelFiles:
    every = tensors.values()
    parameters, size = sum(one.elements for one in every), sum(one.size for one in every)
    return ModelFiles(path=path, kind=kind, architecture=architecture, parameters=parameters, tensor_bytes=size,
                      dtypes=frozenset(one.dtype for one in every))


def _real(path: Path) -> Path:
    try:
        return Path(os.path.realpath(path, strict=True))
    except (OSError, ValueError):
        raise ModelRejected(f"There is no {Path(path).name} here that can be opened.", "not-found") from None


@contextmanager
def _open(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file and its size; system errors, also while it is read, become one sentence."""
    try:
        # Without waiting: opening a pipe would otherwise last until somebody writes to it.
        with open(path, "rb", opener=lambda p, flags: os.open(p, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            status = os.fstat(file.fileno())
            _need(stat.S_ISREG(status.st_mode), f"{path.name} is not an ordinary file", "special-file")
            yield file, status.st_size
    except FileNotFoundError:
        raise ModelRejected(f"{path.name} is missing from the model's folder.", "file-missing") from None
    except OSError:
        raise ModelRejected(f"{path.name} cannot be read.", "unreadable") from None


def _check_entries(folder: Path) -> set[str]:
    """Names of the regular files in a folder in which nothing runs, blocks or leads elsewhere."""
    homes = [folder]
    if folder.parent.name == "snapshots":
        # The Hugging Face cache: links to the repository's blobs, and from there to blobs that all repositories share.
        homes = [folder.parent.parent, folder.parent.parent.parent / "blobs"]
    names: set[str] = set()
    for name in sorted(os.listdir(folder)):
        lower, target = name.lower(), Path(os.path.realpath(folder / name))
        inside = any(target.is_relative_to(home) for home in homes)
        _need(inside, f"{name} is a link to a place outside the model's folder", "outside-link")
        program = lower.endswith(".py") or lower == "custom_generate"
        _need(not program, f"The folder contains program code ({name}), which the explorer never runs", "code")
        _need(lower != "adapter_config.json", "This is an adapter for another model, not a whole model", "adapter")
        # transformers would load such files in place of those that are checked here.
        checkpoint = re.match(r"shard-\d+-model-", name)
        _need(not checkpoint, f"{name} belongs to a training checkpoint, not to a finished model", "checkpoint")
        try:
            status = target.stat()
        except FileNotFoundError:
            continue  # a broken link matters only if its file is needed, and is then found missing
        regular = stat.S_ISREG(status.st_mode)
        _need(regular or stat.S_ISDIR(status.st_mode), f"{name} is not an ordinary file", "special-file")
        if lower.startswith(TOKENIZERS + OTHER_CONFIGS):
            _need(status.st_size <= MAX_TOKENIZER_BYTES, f"{name} is larger than 64 MiB", "too-large")
        if regular:
            names.add(name)
    return names


def _json_file(path: Path, limit: int) -> dict[str, Any]:
    with _open(path) as (file, _):
        raw = file.read(limit + 1)
    _need(len(raw) <= limit, f"{path.name} is larger than {limit // MIB} MiB", "too-large")
    return _json(raw, path.name)


def _json(raw: bytes, file: str) -> dict[str, Any]:
    # Counted before parsing: a few MiB of empty brackets would become hundreds of MiB of Python objects.
    few = raw.count(b"{") <= MAX_TENSORS + 2 and raw.count(b",") <= 8 * MAX_TENSORS
    _intact(few, file, "it lists too many things", "too-many")
    try:
        value = json.loads(raw.decode(), parse_constant=_finite, parse_float=_finite, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        value = None
    _intact(isinstance(value, dict), file, "it is not JSON with finite numbers and every name once", "bad-json")
    return dict(value)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(values := dict(pairs)) != len(pairs):
        raise ValueError
    return values


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object inside a value; without recursion, since the file decides how deep it is."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _check_code(part: dict[str, Any], file: str) -> None:
    asked = part.get("auto_map") is not None or part.get("custom_generate") is not None
    _need(not asked, f"{file} asks to run the model's own program code, which the explorer never does", "code")


def _check_config(config: dict[str, Any]) -> str:
    """The model_type of a config.json that asks for nothing dangerous, unsupported or absurdly large."""
    file, parts = "config.json", list(_objects(config))
    for part in parts:
        _check_code(part, file)
        other = part.get("configuration_files") is not None or part.get("transformers_weights") is not None
        _need(not other, f"{file} points to other files in its place, which are not checked", "redirect")
        kernels = [value for key, value in part.items() if "attn_implementation" in key]
        usual = all(value in (None, "eager", "sdpa") for value in kernels)
        _need(usual, f"{file} asks for an attention program that is not built in", "attention")
        quantized = part.get("quantization_config") is not None
        _need(not quantized, "This copy is already quantized; the explorer needs the original", "quantized")
        _need(not part.get("is_encoder_decoder"), "This is an encoder-decoder model, which the explorer cannot open",
              "encoder-decoder")
        _check_ranges(part, file)
    for names in (LAYERS, HIDDEN):
        given = any(part.get(key) is not None for part in parts for key in names)
        _need(given, f"{file} does not say how large the model is ({names[0]})", "config-range")
    return _architecture(config.get("model_type"), file)


def _check_ranges(values: dict[str, Any], file: str) -> None:
    for names, (low, high) in RANGES.items():
        for key in (name for name in names if values.get(name) is not None):
            value = values[key]
            each = value if isinstance(value, list) and names is INNER else [value]  # some models: one a layer
            fits = all(type(number) is int and low <= number <= high for number in each)
            _need(fits, f"{file} must give {key} as a whole number from {low} to {high}", "config-range")
    heads, groups = ([values[key] for key in names if values.get(key) is not None] for names in (HEADS, KEY_VALUE_HEADS))
    even = all(count % group == 0 for count in heads for group in groups)
    _need(even, f"{file} has attention heads that the key-value heads do not divide evenly", "config-heads")


def _architecture(value: object, file: str) -> str:
    name = value if isinstance(value, str) else ""
    _need(bool(re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name)), f"{file} does not name its architecture", "architecture")
    return name


def _weights(folder: Path, names: set[str]) -> dict[str, _Tensor]:
    """All tensors of the safetensors files that a loader would pick."""
    expected, shards = {}, ["model.safetensors"]
    if shards[0] not in names:
        if "model.safetensors.index.json" not in names:
            pickled = any(name.lower().endswith(PICKLES) for name in names)
            _need(not pickled, "This folder has its weights only in pickle files, which can run hidden programs when "
                  "they are opened; look for a copy in .safetensors files", "pickle")
            raise ModelRejected("This folder has no model.safetensors file with the weights.", "no-weights")
        expected = _weight_map(folder / "model.safetensors.index.json")
        shards = sorted(set(expected.values()))
    _need(len(shards) <= MAX_SHARDS, f"The weights are in more than {MAX_SHARDS} files", "too-many")
    tensors: dict[str, _Tensor] = {}
    homes: dict[str, str] = {}
    room = MAX_HEADER_BYTES
    for shard in shards:
        found, length = _safetensors(folder / shard, room)
        _intact(tensors.keys().isdisjoint(found), shard, "it repeats a tensor of another file", "tensor-repeated")
        tensors, homes, room = tensors | found, homes | dict.fromkeys(found, shard), room - length
        _intact(len(tensors) <= MAX_TENSORS, shard, "there are too many tensors", "too-many")
    complete = expected.items() <= homes.items()
    _intact(complete, "model.safetensors.index.json", "it lists tensors that its files do not have", "tensor-missing")
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    shards = _json_file(index, MAX_HEADER_BYTES).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelRejected(f"{index.name} does not say which file holds which tensor.", "bad-index")
    for shard in shards.values():
        plain = isinstance(shard, str) and re.fullmatch(r"[\w.-]+\.safetensors", shard, re.ASCII)
        _intact(bool(plain), index.name, "it names something other than .safetensors files beside it", "shard-name")
    return shards


def _safetensors(path: Path, room: int) -> tuple[dict[str, _Tensor], int]:
    """The tensors of one safetensors file and the length of its header, which is at most `room`."""
    name = path.name
    with _open(path) as (file, size):
        length = int.from_bytes(file.read(8), "little")
        _intact(2 <= length <= min(room, size - 8), name, "the length of its header is impossible", "header-length")
        raw = file.read(length)
    _intact(raw.startswith(b"{"), name, "its header does not start as one", "bad-json")
    header = _json(raw, name)
    notes = header.pop("__metadata__", {})
    plain = isinstance(notes, dict) and all(isinstance(note, str) for note in notes.values())
    _intact(plain, name, "its notes are not text", "bad-header")
    _intact(len(header) <= MAX_TENSORS, name, "it has too many tensors", "too-many")
    tensors = {key: _tensor(key, value, name) for key, value in header.items()}
    end = 0
    for tensor in sorted(tensors.values(), key=lambda one: (one.begin, one.size)):
        _intact(tensor.begin == end, name, "its tensors overlap or leave a hole", "tensor-offsets")
        end += tensor.size
    filled = bool(tensors) and end == size - 8 - length
    _intact(filled, name, "its tensors do not fill the file exactly", "file-size")
    return tensors, length


def _tensor(key: str, value: Any, file: str) -> _Tensor:
    _intact(1 <= len(key) <= MAX_NAME, file, "the name of a tensor is empty or too long", "tensor-name")
    known = isinstance(value, dict) and value.keys() == {"dtype", "shape", "data_offsets"}
    _intact(known, file, "a tensor is not described by dtype, shape and data_offsets", "bad-header")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    _intact(isinstance(dtype, str) and dtype in DTYPE_BYTES, file, "a tensor has an unknown number format", "tensor-dtype")
    sane = _whole_numbers(shape) and len(shape) <= 8 and math.prod(shape) < MAX_ELEMENTS
    _intact(sane, file, "a tensor has an impossible shape", "tensor-shape")
    _intact(_whole_numbers(offsets) and len(offsets) == 2, file, "a tensor has no place in the file", "tensor-offsets")
    elements, (begin, end) = math.prod(shape), offsets
    size = elements * DTYPE_BYTES[dtype]
    _intact(end - begin == size, file, "a tensor has a length that does not fit its shape", "tensor-size")
    return _Tensor(dtype, elements, begin, size)


def _whole_numbers(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)


class _Reader:
    """Takes bytes from the start of a file, and never more than are left."""

    def __init__(self, file: BinaryIO, size: int, name: str) -> None:
        self.file, self.left, self.name, self.items = file, size, name, 0

    def check(self, condition: bool, otherwise: str, code: str) -> None:
        _intact(condition, self.name, otherwise, code)

    def skip(self, count: int) -> None:
        self.check(count <= self.left, "it ends too early", "truncated")
        self.left -= count
        self.file.seek(count, os.SEEK_CUR)

    def take(self, count: int) -> bytes:
        self.check(count <= self.left, "it ends too early", "truncated")
        self.left -= count
        return self.file.read(count)

    def number(self, count: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(count), "little", signed=signed)

    def text(self) -> str:
        length = self.number(8)
        self.check(1 <= length <= MAX_NAME, "a name in it is empty or too long", "gguf-string")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise ModelRejected(f"{self.name} is damaged: a name in it is not text.", "gguf-string") from None

    def skip_text(self) -> None:
        length = self.number(8)
        self.check(length <= MAX_GGUF_STRING, "a text in it is too long", "gguf-string")
        self.skip(length)

    def value(self, kind: int) -> int | None:
        """A whole number; of every other kind of value only the place in the file matters here."""
        if kind == GGUF_STRING:
            self.skip_text()
        elif kind == GGUF_ARRAY:
            kind, count = self.number(4), self.number(8)
            self.items += count
            self.check(kind == GGUF_STRING or kind in GGUF_BYTES, "it has an array of arrays or worse", "gguf-type")
            self.check(self.items <= MAX_GGUF_ITEMS, "its arrays are too long", "too-many")
            if kind == GGUF_STRING:
                for _ in range(count):
                    self.skip_text()
            else:
                self.skip(count * GGUF_BYTES[kind])
        else:
            self.check(kind in GGUF_BYTES, "it has a value of an unknown kind", "gguf-type")
            number = self.number(GGUF_BYTES[kind], kind in GGUF_SIGNED)
            return None if kind in GGUF_NOT_WHOLE else number
        return None


def _gguf(reader: _Reader) -> tuple[str, dict[str, _Tensor]]:
    """Architecture and tensors, from the header of a .gguf file."""
    size, check, number = reader.left, reader.check, reader.number
    check(reader.take(4) == b"GGUF", "it does not start with GGUF", "gguf-magic")
    check(number(4) in (2, 3), "its version is not 2 or 3, or it is for big-endian machines", "gguf-version")
    tensor_count, value_count = number(8), number(8)
    check(max(tensor_count, value_count) <= MAX_GGUF_ENTRIES, "it lists too many things", "too-many")
    values: dict[str, int | None] = {}
    named = None
    for _ in range(value_count):
        key, kind = reader.text(), number(4)
        check(key not in values, "a name in it is used twice", "repeated-name")
        if key == "general.architecture" and kind == GGUF_STRING:
            values[key], named = None, reader.text()
        else:
            values[key] = reader.value(kind)
    architecture = _architecture(named, reader.name)
    _check_ranges({key.removeprefix(f"{architecture}."): value for key, value in values.items()}, reader.name)
    part = values.get("split.count") not in (None, 0, 1)
    _need(not part, f"{reader.name} is only one part of a model that was split into several files", "gguf-split")
    alignment = values.get("general.alignment", 32)
    check(alignment in {2**power for power in range(3, 13)}, "its alignment is impossible", "gguf-alignment")
    tensors: dict[str, _Tensor] = {}
    for _ in range(tensor_count):
        ...
    return architecture, tensors
