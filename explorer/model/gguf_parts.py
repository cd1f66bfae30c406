"""A .gguf file that may be split: all of its parts are found, checked, and joined where one file is needed."""

import hashlib
import re
import shutil
import struct
from pathlib import Path

from explorer.model.gguf_header import Header, read_header
from explorer.model.preflight import ModelFiles, file_sha256, require, summary

NUMBERED = re.compile(r"(?i)(.+)-(\d{5})-of-(\d{5})\.gguf")
MAX_PARTS = 1000
PLACE, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"


def check_gguf(file: Path) -> ModelFiles:
    """Refuse a .gguf file that is damaged, hostile or not there with all its parts."""
    headers = _headers(file)
    tensors = {name: tensor for header in headers for name, tensor in header.tensors.items()}
    return summary(headers[0].architecture, tensors)


def gguf_sha256(file: Path) -> str:
    """The SHA-256 of the content, of all parts together where there are several."""
    sums = [file_sha256(part) for part in parts_of(file)]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def gguf_bytes(file: Path) -> int:
    """How much a file takes on disk with all its parts."""
    return sum(part.stat().st_size for part in parts_of(file))


def parts_of(file: Path) -> list[Path]:
    """The files that belong together with this one, by their names; itself, where it is whole."""
    named = NUMBERED.fullmatch(file.name)
    if not named or not 2 <= int(named[3]) <= MAX_PARTS:
        return [file]
    end, count = file.name[-5:], int(named[3])
    parts = [file.with_name(f"{named[1]}-{place:05}-of-{count:05}{end}") for place in range(1, count + 1)]
    for part in parts:
        require(part.is_file(), "gguf-split", f"{file.name} is one of {count} parts, and {part.name} is not beside it")
    return parts


def joined(file: Path, whole: Path) -> None:
    """All parts as the one file `whole`, which says what the first part says."""
    headers = _headers(file)
    alignment = headers[0].values.get("general.alignment", 32)
    assert isinstance(alignment, int)
    table, begins, end = bytearray(), [], 0
    for header in headers:
        table += _moved(header, end)
        begins.append(end)
        end += -(-(header.file.stat().st_size - header.data_start) // alignment) * alignment
    with open(headers[0].file, "rb") as source, open(whole, "wb") as out:
        start, values = source.read(24), source.read(headers[0].values_end - 24)
        count = sum(len(header.tensors) for header in headers)
        out.write(start[:8] + struct.pack("<Q", count) + start[16:] + values + table)
        data = -(-out.tell() // alignment) * alignment
        for header, begin in zip(headers, begins, strict=True):
            out.seek(data + begin)
            with open(header.file, "rb") as part:
                part.seek(header.data_start)
                shutil.copyfileobj(part, out, 2**24)


def _headers(file: Path) -> list[Header]:
    """Of all parts in their order, which must say so themselves."""
    parts = parts_of(file)
    headers = [read_header(part) for part in parts]
    for place, header in enumerate(headers):
        name, count = header.file.name, header.values.get(COUNT)
        alone = len(parts) == 1 and count in (None, 0, 1)
        fits = count == len(parts) and header.values.get(PLACE) == place
        require(alone or fits, "gguf-split", f"{name} is one part of a split model, and not named as that part of it")
    names = [name for header in headers for name in header.tensors]
    require(len(names) == len(set(names)), "repeated-name", f"The parts of {file.name} hold a tensor twice")
    total = headers[0].values.get(TENSORS, len(names))
    require(total in (0, len(names)), "tensor-missing", f"The parts of {file.name} do not hold {total} tensors")
    return headers


def _moved(header: Header, by: int) -> bytes:
    """The table of tensors of a part, whose data go that many bytes further back."""
    with open(header.file, "rb") as file:
        file.seek(header.values_end)
        moved = bytearray()
        for _ in header.tensors:
            length = file.read(8)
            name, dimensions = file.read(int.from_bytes(length, "little")), file.read(4)
            shape, kind = file.read(8 * int.from_bytes(dimensions, "little")), file.read(4)
            place = int.from_bytes(file.read(8), "little") + by
            moved += length + name + dimensions + shape + kind + struct.pack("<Q", place)
        return bytes(moved)
