"""Is this .gguf file whole, and sane, and what does it say? From its header; what lies behind that is not read, but
for tensors of a few numbers that are asked for by name."""

import math
import struct
from collections.abc import Collection
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from explorer.model.preflight import (
    MAX_ELEMENTS,
    MAX_NAME,
    MIB,
    ModelRejected,
    Tensor,
    check_config,
    open_file,
    real_path,
    require,
)

MAX_HEADER, MAX_PART = 256 * MIB, 16 * MIB
MAX_ITEMS = 2_000_000  # in all arrays of a file together: readers turn each item into a Python object
GGML_TYPES = {  # number: name, elements in a block, bytes of a block
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 20: ("IQ4_NL", 32, 18), 28: ("F64", 1, 8),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 29: ("IQ1_M", 256, 56), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 30: ("BF16", 1, 2),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18)}  # fmt: skip
UNDECODABLE = {"Q8_1", "Q8_K", "Q1_0", "F64", "I8", "I16", "I32", "I64"}  # by the gguf package
KIND_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 8: 0, 10: 8, 11: 8, 12: 8}  # of a value, by its kind
SIGNED = (1, 3, 5, 11)
FLOAT, BOOLEAN, STRING, ARRAY, DOUBLE = 6, 7, 8, 9, 12
MAX_LIST = 1024  # numbers of an array that is kept: one a block, not one a token
Value = bool | int | float | str | tuple[Any, ...] | None


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a .gguf file says: its values by key, its tensors by name; and where its parts begin, in bytes."""

    file: Path
    name: str
    architecture: str
    values: dict[str, Value]
    tensors: dict[str, Tensor]
    values_end: int
    data_start: int

    @property
    def own(self) -> dict[str, Value]:
        """What is said of the architecture, without its name in the keys."""
        start = f"{self.architecture}."
        return {key.removeprefix(start): value for key, value in self.values.items() if key.startswith(start)}

    def numbers(self, name: str) -> list[float]:
        """A short float32 tensor; none where it is absent."""
        if name not in self.tensors:
            return []
        begin, span, elements, dtype = self.tensors[name]
        fine = dtype == "F32" and elements <= MAX_LIST
        require(fine, "tensor-dtype", f"{self.name} holds {name}, which is no short list of float32 numbers")
        with open_file(real_path(self.file)) as (stream, _):
            stream.seek(self.data_start + begin)
            return list(struct.unpack(f"<{elements}f", stream.read(span)))


def read_header(file: Path, name: str = "") -> Header:
    """Refuse a .gguf file whose header is damaged, hostile or does not fit the file; `name` is how it is called."""
    with open_file(real_path(file)) as (stream, size):
        return _header(stream, size, file, name or file.name)


class _Reader:
    """Takes bytes from the start of a .gguf file, and never more than are left."""

    def __init__(self, file: BufferedReader, size: int, name: str) -> None:
        self.file, self.left, self.items, self.bad = file, size, MAX_ITEMS, f"{name} is damaged:"

    def take(self, count: int) -> bytes:
        if count > self.left or count > MAX_PART:
            raise ModelRejected("truncated", f"{self.bad} it ends too early, or a part of it is too long.")
        self.left -= count
        return self.file.read(count)

    def number(self, count: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(count), "little", signed=signed)

    def text(self) -> str:
        return self.take(self.number(8))[: MAX_NAME + 1].decode("ascii", "replace")

    def name(self, taken: Collection[str]) -> str:
        name = self.text()
        require(0 < len(name) <= MAX_NAME and name.isascii(), "gguf-text", f"{self.bad} a name is impossible")
        require(name not in taken, "repeated-name", f"{self.bad} it has a name twice")
        return name

    def value(self, kind: int) -> Value:
        """A number, the start of a text, or a short list of numbers; of other arrays only the end matters here."""
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            require(kind in KIND_BYTES, "gguf-kind", f"{self.bad} a value is of unknown kind")
            return _number(kind, self.take(KIND_BYTES[kind]))
        kind, count = self.number(4), self.number(8)
        self.items -= count
        require(self.items >= 0 and kind in KIND_BYTES, "gguf-array", f"{self.bad} an array is too long or odd")
        if kind != STRING and count <= MAX_LIST:
            return tuple(_number(kind, self.take(KIND_BYTES[kind])) for _ in range(count))
        self.take(count * KIND_BYTES[kind])
        for _ in range(count if kind == STRING else 0):
            self.take(self.number(8))
        return None


def _number(kind: int, raw: bytes) -> bool | int | float:
    if kind == BOOLEAN:
        return raw != b"\0"
    if kind == DOUBLE:
        return float(struct.unpack("<d", raw)[0])
    if kind != FLOAT:
        return int.from_bytes(raw, "little", signed=kind in SIGNED)
    value = struct.unpack("<f", raw)[0]
    # The shortest that is stored so: 1e-05, as the original config has it, and not 9.999999747378752e-06.
    return next(
        (short for digits in (6, 7, 8) if struct.pack("<f", short := float(f"{value:.{digits}g}")) == raw), value
    )


def _header(file: BufferedReader, size: int, path: Path, name: str) -> Header:
    """What the header of a .gguf file says."""
    reader = _Reader(file, room := min(size, MAX_HEADER), name)
    number, bad = reader.number, reader.bad
    require(reader.take(4) == b"GGUF", "gguf-magic", f"{bad} it does not start with GGUF")
    require(number(4) in (2, 3), "gguf-version", f"{bad} its version is not 2 or 3, or it is big-endian")
    tensor_count, value_count = number(8), number(8)
    require(max(tensor_count, value_count) <= 2**16, "too-many", f"{bad} it lists too many things")
    values: dict[str, Value] = {}
    for _ in range(value_count):
        key = reader.name(values)
        values[key] = reader.value(number(4))
    values_end = room - reader.left
    architecture, alignment = values.get("general.architecture"), values.get("general.alignment", 32)
    _check_sizes(f"{architecture}.", values, name)
    right = type(alignment) is int and alignment in {8 << power for power in range(10)}
    require(right, "gguf-alignment", f"{bad} its alignment is wrong")
    tensors: dict[str, Tensor] = {}
    for _ in range(tensor_count):
        key, dimensions = reader.name(tensors), number(4)
        require(1 <= dimensions <= 4, "tensor-shape", f"{bad} a tensor has not 1 to 4 dimensions")
        shape = [number(8) for _ in range(dimensions)]
        elements, kind, begin = math.prod(shape), number(4), number(8)
        unknown = f"{name} uses the number format {kind}, which is unknown here; the file is newer, or damaged"
        require(kind in GGML_TYPES, "tensor-dtype", unknown)
        dtype, block, span = GGML_TYPES[kind]
        sane = 0 < elements < MAX_ELEMENTS and shape[0] % block == 0
        require(sane, "tensor-shape", f"{bad} a tensor has an impossible shape")
        tensors[key] = begin, elements // block * span, elements, dtype
    end = 0
    for begin, span, *_ in sorted(tensors.values()):
        require(end <= begin, "tensor-place", f"{bad} its tensors overlap")
        end = begin + span
    start = -(-(room - reader.left) // int(alignment)) * int(alignment)  # type: ignore[arg-type]
    require(tensors and start + end <= size, "file-size", f"{bad} it ends before its tensors do")
    odd = sorted({dtype for *_, dtype in tensors.values()} & UNDECODABLE)
    require(not odd, "undecodable", f"{name} uses {', '.join(odd)}, which cannot be decoded here")
    return Header(
        file=path,
        name=name,
        architecture=architecture if isinstance(architecture, str) else "",
        values=values,
        tensors=tensors,
        values_end=values_end,
        data_start=start,
    )


def _check_sizes(own: str, values: dict[str, Value], name: str) -> None:
    """Sizes that cannot be. Mamba says that it has 0 heads; a list holds a number for each block."""
    given = {key.removeprefix(own): value for key, value in values.items() if key.startswith(own)}
    lists = [(key, each) for key, value in given.items() if isinstance(value, tuple) for each in value if each != 0]
    single = {key: value for key, value in given.items() if not isinstance(value, tuple)}
    heads = {key for key in single if key.startswith("attention.head_count") and single[key] == 0}
    check_config([{key: single[key] for key in single.keys() - heads}, *({key: each} for key, each in lists)], name)
