"""Is this .gguf file whole, and sane? Decided from its header; what lies behind that is not read."""

import math
from collections.abc import Collection
from io import BufferedReader
from pathlib import Path
from typing import Any

from explorer.model.preflight import (
    MAX_ELEMENTS,
    MAX_NAME,
    MIB,
    ModelFiles,
    ModelRejected,
    Tensor,
    check_config,
    open_file,
    real_path,
    require,
    summary,
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
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 30: ("BF16", 1, 2)}  # fmt: skip
KIND_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 8: 0, 10: 8, 11: 8, 12: 8}  # of a value, by its kind
SIGNED, NOT_WHOLE = (1, 3, 5, 11), (6, 7, 12)
STRING, ARRAY = 8, 9


def check_gguf(file: Path) -> ModelFiles:
    """Refuse a .gguf file whose header is damaged, hostile or does not fit the file."""
    real = real_path(file)
    with open_file(real) as (stream, size):
        return summary(*_header(stream, size, Path(file).name))


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

    def value(self, kind: int) -> int | str | None:
        """A whole number or the start of a text; of other kinds of value only the end matters here."""
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            require(kind in KIND_BYTES, "gguf-kind", f"{self.bad} a value is of unknown kind")
            number = self.number(KIND_BYTES[kind], kind in SIGNED)
            return None if kind in NOT_WHOLE else number
        kind, count = self.number(4), self.number(8)
        self.items -= count
        require(self.items >= 0 and kind in KIND_BYTES, "gguf-array", f"{self.bad} an array is too long or odd")
        self.take(count * KIND_BYTES[kind])
        for _ in range(count if kind == STRING else 0):
            self.take(self.number(8))
        return None


def _header(file: BufferedReader, size: int, name: str) -> tuple[object, dict[str, Tensor]]:
    """Architecture and tensors, from the header of a .gguf file."""
    reader = _Reader(file, room := min(size, MAX_HEADER), name)
    number, bad = reader.number, reader.bad
    require(reader.take(4) == b"GGUF", "gguf-magic", f"{bad} it does not start with GGUF")
    require(number(4) in (2, 3), "gguf-version", f"{bad} its version is not 2 or 3, or it is big-endian")
    tensor_count, value_count = number(8), number(8)
    require(max(tensor_count, value_count) <= 2**16, "too-many", f"{bad} it lists too many things")
    values: dict[str, Any] = {}
    for _ in range(value_count):
        key = reader.name(values)
        values[key] = reader.value(number(4))
    architecture, alignment = values.get("general.architecture"), values.get("general.alignment", 32)
    own = f"{architecture}."
    check_config([{key.removeprefix(own): values[key] for key in values if key.startswith(own)}], name)
    require(values.get("split.count") in (None, 0, 1), "gguf-split", f"{name} is one part of a split model")
    require(alignment in {8 << power for power in range(10)}, "gguf-alignment", f"{bad} its alignment is wrong")
    tensors: dict[str, Tensor] = {}
    for _ in range(tensor_count):
        key, dimensions = reader.name(tensors), number(4)
        require(1 <= dimensions <= 4, "tensor-shape", f"{bad} a tensor has not 1 to 4 dimensions")
        shape = [number(8) for _ in range(dimensions)]
        elements, kind, begin = math.prod(shape), number(4), number(8)
        require(kind in GGML_TYPES, "tensor-dtype", f"{bad} a number format is unknown")
        dtype, block, span = GGML_TYPES[kind]
        sane = 0 < elements < MAX_ELEMENTS and shape[0] % block == 0
        require(sane, "tensor-shape", f"{bad} a tensor has an impossible shape")
        tensors[key] = begin, elements // block * span, elements, dtype
    end = 0
    for begin, span, *_ in sorted(tensors.values()):
        require(end <= begin, "tensor-place", f"{bad} its tensors overlap")
        end = begin + span
    start = -(-(room - reader.left) // alignment) * alignment
    require(tensors and start + end <= size, "file-size", f"{bad} it ends before its tensors do")
    return architecture, tensors
