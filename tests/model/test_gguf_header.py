"""Damaged and hostile .gguf files, written here byte by byte: each is refused, quickly, in one sentence."""

import struct
from pathlib import Path

import pytest

from explorer.model import gguf_header
from explorer.model.gguf_parts import check_gguf
from explorer.model.preflight import ModelRejected
from tests.model.damage import LONG, damage_at_random, refused


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def number(value: int) -> bytes:
    return struct.pack("<II", 4, value)


def array(kind: int, count: int, body: bytes = b"") -> bytes:
    return struct.pack("<IIQ", 9, kind, count) + body


VALUES: dict[str | bytes, bytes] = {
    "general.architecture": struct.pack("<I", 8) + text("llama"),
    "llama.block_count": number(1),
    "llama.attention.head_count": number(4),
    "llama.attention.head_count_kv": number(2),
    "llama.rope.freq_base": struct.pack("<If", 6, 1e4),
    "tokenizer.ggml.tokens": array(8, 3, text("a") + text("é") + text("")),
    "tokenizer.ggml.scores": array(6, 3, struct.pack("<3f", 1, 2, 3)),
    "tokenizer.ggml.add_bos_token": struct.pack("<IB", 7, 1),
}


def info(name: str = "embed", shape: tuple[int, ...] = (32, 4), kind: int = 8, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def gguf(
    values: dict[str | bytes, bytes] | None = None,
    infos: tuple[bytes, ...] | None = None,
    *,
    start: bytes = b"GGUF" + struct.pack("<I", 3),
    counts: tuple[int, int] | None = None,
    data: int = 192,
    alignment: int = 32,
    **more: bytes,
) -> bytes:
    """A Q8_0 tensor of 4 blocks (136 bytes), padding, an F32 tensor of 8 numbers, unless told otherwise."""
    values = (VALUES if values is None else values) | {name.replace("__", "."): raw for name, raw in more.items()}
    infos = (info(), info("norm", (8,), 0, 160)) if infos is None else infos
    counts = (len(infos), len(values)) if counts is None else counts
    raw = start + struct.pack("<QQ", *counts) + b"".join(text(name) + value for name, value in values.items())
    raw += b"".join(infos)
    return raw + bytes(-len(raw) % alignment) + bytes(data)


def test_a_good_gguf_file_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "good.gguf").write_bytes(gguf())
    files = check_gguf(tmp_path / "good.gguf")
    assert (files.architecture, files.parameters, files.tensor_bytes) == ("llama", 136, 168)
    assert files.dtypes == {"Q8_0", "F32"}


GOOD_GGUFS = {
    "version 2": gguf(start=b"GGUF" + struct.pack("<I", 2)),
    "alignment 64": gguf(
        general__alignment=number(64), infos=(info(), info("norm", (8,), 0, 192)), data=224, alignment=64
    ),
    "every kind of value": gguf(
        **{
            f"kind{kind}": struct.pack("<I", kind) + bytes(size)
            for kind, size in gguf_header.KIND_BYTES.items()
            if size
        }
    ),
    "other order": gguf(infos=(info("norm", (8,), 0, 160), info())),
    "four dimensions": gguf(infos=(info(shape=(32, 1, 2, 2)),)),
    "data beyond the tensors": gguf(data=4096),
}


@pytest.mark.parametrize("raw", GOOD_GGUFS.values(), ids=GOOD_GGUFS)
def test_usual_gguf_files_are_accepted(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "model.gguf").write_bytes(raw)
    assert check_gguf(tmp_path / "model.gguf").architecture == "llama"


@pytest.mark.parametrize("kind", gguf_header.GGML_TYPES)
def test_every_ggml_type_is_measured(tmp_path: Path, kind: int) -> None:
    name, elements, size = gguf_header.GGML_TYPES[kind]
    (tmp_path / "model.gguf").write_bytes(gguf(infos=(info(shape=(elements, 3), kind=kind),), data=3 * size))
    if name in gguf_header.UNDECODABLE:
        refused(check_gguf, tmp_path / "model.gguf", "undecodable")
    else:
        files = check_gguf(tmp_path / "model.gguf")
        assert (files.parameters, files.tensor_bytes, files.dtypes) == (3 * elements, 3 * size, {name})
    (tmp_path / "model.gguf").write_bytes(gguf(infos=(info(shape=(elements, 3), kind=kind),), data=3 * size - 1))
    refused(check_gguf, tmp_path / "model.gguf", "file-size")


@pytest.mark.parametrize("kind, words", [(41, "Q1_0, which cannot be decoded"), (77, "77, which is unknown here")])
def test_a_number_format_that_cannot_be_decoded_is_named_and_not_called_damage(
    tmp_path: Path, kind: int, words: str
) -> None:
    (tmp_path / "model.gguf").write_bytes(gguf(infos=(info(shape=(128, 1), kind=kind),), data=64))
    with pytest.raises(ModelRejected, match=words) as found:
        check_gguf(tmp_path / "model.gguf")
    assert "is damaged" not in str(found.value)


def test_what_a_header_says_is_read(tmp_path: Path) -> None:
    floats = struct.pack("<If", 6, 1e-5)
    counts = array(5, 2, struct.pack("<2i", 0, 8))
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf(llama__eps=floats, llama__counts=counts, llama__yes=struct.pack("<IB", 7, 1)))
    header = gguf_header.read_header(file)
    assert header.own | {"eps": 1e-5, "counts": (0, 8), "yes": True, "block_count": 1} == header.own
    assert header.numbers("norm") == [0.0] * 8 and header.numbers("absent") == []


def without(name: str) -> dict[str | bytes, bytes]:
    return {key: value for key, value in VALUES.items() if key != name}


def texts(count: int) -> bytes:
    return bytes(8 * count)


GOOD = gguf()
BAD_GGUFS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "truncated"),
    "magic only": (b"GGUF", "truncated"),
    "other magic": (b"GGML" + GOOD[4:], "gguf-magic"),
    "zip": (b"PK\x03\x04" + bytes(60), "gguf-magic"),
    "version 0": (gguf(start=b"GGUF" + struct.pack("<I", 0)), "gguf-version"),
    "version 1": (gguf(start=b"GGUF" + struct.pack("<I", 1)), "gguf-version"),
    "version 99": (gguf(start=b"GGUF" + struct.pack("<I", 99)), "gguf-version"),
    "big-endian": (gguf(start=b"GGUF" + struct.pack(">I", 3)), "gguf-version"),
    "1e8 values": (gguf(counts=(2, 10**8)), "too-many"),
    "2**63 values": (gguf(counts=(2, 2**63)), "too-many"),
    "2**64 - 1 tensors": (gguf(counts=(2**64 - 1, 8)), "too-many"),
    "fewer values than said": (gguf(counts=(2, 60_000)), "truncated"),
    "no tensors": (gguf(infos=()), "file-size"),
    "no architecture": (gguf(without("general.architecture")), "architecture"),
    "architecture a number": (gguf(VALUES | {"general.architecture": number(1)}), "architecture"),
    "architecture a path": (
        gguf(VALUES | {"general.architecture": struct.pack("<I", 8) + text("../a")}),
        "architecture",
    ),
    "architecture empty": (
        gguf(VALUES | {"general.architecture": struct.pack("<I", 8) + text("")}),
        "architecture",
    ),
    "key of 2**60 bytes": (GOOD[:24] + struct.pack("<Q", 2**60) + GOOD[32:], "truncated"),
    "key past the end": (GOOD[:24] + struct.pack("<Q", 5000) + GOOD[32:], "truncated"),
    "empty key": (gguf(VALUES | {"": number(1)}), "gguf-text"),
    "long key": (gguf(VALUES | {LONG: number(1)}), "gguf-text"),
    "key not text": (gguf(VALUES | {b"\xff\xfe": number(1)}), "gguf-text"),
    "key twice": (gguf(VALUES | {b"llama.block_count": number(1)}), "repeated-name"),
    "string of 2**60 bytes": (gguf(a=struct.pack("<IQ", 8, 2**60)), "truncated"),
    "string past the end": (gguf(a=struct.pack("<IQ", 8, 5000)), "truncated"),
    "value of kind 13": (gguf(a=struct.pack("<IQ", 13, 0)), "gguf-kind"),
    "value of kind 2**32 - 1": (gguf(a=struct.pack("<IQ", 2**32 - 1, 0)), "gguf-kind"),
    "array of 2**40 bytes": (gguf(a=array(0, 2**40)), "gguf-array"),
    "array of 2**63 numbers": (gguf(a=array(10, 2**63)), "gguf-array"),
    "array of 2**63 strings": (gguf(a=array(8, 2**63)), "gguf-array"),
    "array past the end": (gguf(a=array(10, 10**5)), "truncated"),
    "strings past the end": (gguf(a=array(8, 10**5)), "truncated"),
    "array of arrays": (gguf(a=array(9, 1, array(4, 1, bytes(4)))), "gguf-array"),
    "array of kind 99": (gguf(a=array(99, 1, bytes(8))), "gguf-array"),
    "2 million and one items": (
        gguf(a=array(8, 10**6, texts(10**6)), b=array(0, 10**6, bytes(10**6))),
        "gguf-array",
    ),
    "2 million strings": (
        gguf(without("tokenizer.ggml.tokens"), a=array(8, 1_999_997, texts(1_999_000))),
        "truncated",
    ),
    "alignment 0": (gguf(general__alignment=number(0)), "gguf-alignment"),
    "alignment 13": (gguf(general__alignment=number(13)), "gguf-alignment"),
    "alignment 4": (gguf(general__alignment=number(4)), "gguf-alignment"),
    "alignment 2**31": (gguf(general__alignment=number(2**31)), "gguf-alignment"),
    "alignment a fraction": (gguf(general__alignment=struct.pack("<If", 6, 32)), "gguf-alignment"),
    "alignment an array": (gguf(general__alignment=array(4, 1, struct.pack("<I", 32))), "gguf-alignment"),
    "100000 layers": (gguf(VALUES | {"llama.block_count": number(100_000)}), "size-range"),
    "-1 layers": (gguf(VALUES | {"llama.block_count": struct.pack("<Ii", 5, -1)}), "size-range"),
    "layers text": (gguf(VALUES | {"llama.block_count": struct.pack("<I", 8) + text("12")}), "size-range"),
    "uneven key-value heads": (gguf(VALUES | {"llama.attention.head_count_kv": number(3)}), "size-heads"),
    "one part of several": (gguf(split__count=struct.pack("<IH", 2, 3)), "gguf-split"),
    "tensor twice": (gguf(infos=(info(), info(offset=160))), "repeated-name"),
    "tensor without a name": (gguf(infos=(info(""),)), "gguf-text"),
    "no dimensions": (gguf(infos=(info(shape=()),)), "tensor-shape"),
    "five dimensions": (gguf(infos=(info(shape=(32, 1, 1, 1, 1)),)), "tensor-shape"),
    "2**32 - 1 dimensions": (gguf(infos=(text("embed") + struct.pack("<I", 2**32 - 1),)), "tensor-shape"),
    "dimension 0": (gguf(infos=(info(shape=(32, 0)),)), "tensor-shape"),
    "overflowing product": (gguf(infos=(info(shape=(2**32, 2**32)),)), "tensor-shape"),
    "product that wraps to 0": (gguf(infos=(info(shape=(2**32, 2**32, 1, 1)),)), "tensor-shape"),
    "dimension 2**63": (gguf(infos=(info(shape=(2**63, 1)),)), "tensor-shape"),
    "half a block": (gguf(infos=(info(shape=(16, 8)),)), "tensor-shape"),
    "removed type": (gguf(infos=(info(kind=4),)), "tensor-dtype"),
    "type 2**31": (gguf(infos=(info(kind=2**31),)), "tensor-dtype"),
    "offset past the end": (gguf(infos=(info(offset=2**62),)), "file-size"),
    "offset 2**64 - 32": (gguf(infos=(info(offset=2**64 - 32),)), "file-size"),
    "last byte missing": (GOOD[:-1], "file-size"),
    "no data": (gguf(data=0), "file-size"),
    "tensors overlap": (gguf(infos=(info(), info("norm", (8,), 0, 128))), "tensor-place"),
    "65536 tensors in one place": (gguf(infos=tuple(info(f"t{i}") for i in range(65_536))), "tensor-place"),
}


@pytest.mark.parametrize(("raw", "code"), BAD_GGUFS.values(), ids=BAD_GGUFS)
def test_bad_gguf_files_are_refused(tmp_path: Path, raw: bytes, code: str) -> None:
    (tmp_path / "bad.gguf").write_bytes(raw)
    refused(check_gguf, tmp_path / "bad.gguf", code)


def test_a_gguf_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    for length in range(len(GOOD)):
        (tmp_path / "cut.gguf").write_bytes(GOOD[:length])
        with pytest.raises(ModelRejected):
            check_gguf(tmp_path / "cut.gguf")


def test_random_damage_is_accepted_or_refused_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(GOOD)
    damage_at_random(tmp_path / "model.gguf", lambda: check_gguf(tmp_path / "model.gguf"))
