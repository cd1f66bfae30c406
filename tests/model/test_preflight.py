"""Damaged and hostile model files, written here byte by byte: each is refused, quickly, in one sentence."""

import hashlib
import json
import os
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from explorer.model import preflight
from explorer.model.preflight import ModelRejected, check_folder, check_gguf, check_memory, file_sha256, free_bytes

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 16,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "quantization_config": None,
    "is_encoder_decoder": False,
    "_attn_implementation": "sdpa",
}
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
BF16 = {"dtype": "BF16", "shape": [4, 8], "data_offsets": [0, 64]}
F32 = {"dtype": "F32", "shape": [8], "data_offsets": [64, 96]}
HEADER: dict[str, Any] = {"__metadata__": {"format": "pt"}, "embed": BF16, "norm": F32}


def safetensors(header: Any, data: bytes = bytes(96), length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def one_tensor(size: int = 64, name: str = "embed", **changes: Any) -> bytes:
    return safetensors({name: BF16 | changes}, bytes(size))


def write(folder: Path, config: Any = CONFIG, **files: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    files.setdefault("config.json", config)
    if not any(name.startswith("model") for name in files):
        files[SINGLE] = safetensors(HEADER)
    for name, content in files.items():
        if content is not None:
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            (folder / name).write_bytes(raw)
    return folder


def sharded(folder: Path, weight_map: Any = None, **files: Any) -> Path:
    shards = {
        SHARDS[0]: safetensors({"embed": BF16}, bytes(64)),
        SHARDS[1]: safetensors({"norm": F32 | {"data_offsets": [0, 32]}}, bytes(32)),
    }
    weight_map = {"embed": SHARDS[0], "norm": SHARDS[1]} if weight_map is None else weight_map
    return write(folder, **{INDEX: {"metadata": {"total_size": 96}, "weight_map": weight_map}} | shards | files)


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


def refused(check: Callable[[Path], object], path: Path, code: str) -> None:
    begin, worked = time.monotonic(), time.process_time()
    with pytest.raises(ModelRejected) as caught:
        check(path)
    # A few seconds of work; on a busy machine it may take longer, but a pipe must not make it wait.
    assert time.process_time() - worked < 5 and time.monotonic() - begin < 20
    message = str(caught.value)
    assert caught.value.code == code, message
    assert message.endswith(".") and message.isprintable() and str(path.parent) not in message


@pytest.mark.parametrize("make", [write, sharded])
def test_a_good_folder_is_accepted(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    files = check_folder(make(tmp_path / "good"))
    assert files.path == (tmp_path / "good").resolve()
    assert (files.kind, files.architecture) == ("safetensors", "llama")
    assert (files.parameters, files.tensor_bytes) == (40, 96)
    assert files.dtypes == {"BF16", "F32"}


GOOD_CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {
        "model_type": "gpt2",
        "n_layer": 12,
        "n_embd": 768,
        "n_head": 12,
        "n_positions": 1024,
        "n_inner": None,
    },
    "opt": CONFIG | {"model_type": "opt", "ffn_dim": 3072, "num_key_value_heads": None},
    "nested": CONFIG | {"text_config": CONFIG, "attn_implementation": None, "auto_map": None},
    "largest": CONFIG
    | {
        "num_hidden_layers": 512,
        "hidden_size": 65536,
        "num_attention_heads": 1024,
        "vocab_size": 1_000_000,
        "max_position_embeddings": 4_000_000,
    },
    "multi-query": CONFIG | {"num_key_value_heads": 1},
}
GOOD_FOLDERS: dict[str, dict[str, Any]] = {
    "pickle beside": {"pytorch_model.bin": b"\x80\x04."},
    "tokenizer": {
        "tokenizer.json": b"{}",
        "tokenizer_config.json": {"model_max_length": 10**30, "a": [1.5, {}]},
    },
    "own export": {
        "recipe.json": b"{}",
        SINGLE: one_tensor(32, dtype="U8", shape=[32], data_offsets=[0, 32]),
    },
    "scalar": {SINGLE: one_tensor(2, shape=[], data_offsets=[0, 2])},
    "empty tensor": {
        SINGLE: safetensors(HEADER | {"none": {"dtype": "I64", "shape": [0, 3], "data_offsets": [96, 96]}})
    },
    "spaces after the header": {SINGLE: safetensors(json.dumps(HEADER).encode() + b"     ")},
}


@pytest.mark.parametrize("config", GOOD_CONFIGS.values(), ids=GOOD_CONFIGS)
def test_usual_configs_are_accepted(tmp_path: Path, config: dict[str, Any]) -> None:
    assert check_folder(write(tmp_path, config)).architecture == config["model_type"]


@pytest.mark.parametrize("files", GOOD_FOLDERS.values(), ids=GOOD_FOLDERS)
def test_usual_folders_are_accepted(tmp_path: Path, files: dict[str, Any]) -> None:
    assert check_folder(write(tmp_path, **{SINGLE: safetensors(HEADER)} | files)).parameters


def raw_config(addition: str) -> bytes:
    return (json.dumps(CONFIG)[:-1] + "," + addition + "}").encode()


REMOTE = {"AutoModel": "evil.Model"}
BAD_CONFIGS: dict[str, tuple[Any, str]] = {
    "missing": (None, "unreadable"),
    "empty": (b"", "json-length"),
    "not JSON": (b"{model_type: llama}", "bad-json"),
    "not an object": (b"[1, 2]", "bad-json"),
    "not UTF-8": (b'{"model_type": "\xff"}', "bad-json"),
    "UTF-16": (json.dumps(CONFIG).encode("utf-16"), "bad-json"),
    "byte order mark": (b"\xef\xbb\xbf" + json.dumps(CONFIG).encode(), "bad-json"),
    "NaN": (raw_config('"rms_norm_eps": NaN'), "bad-json"),
    "infinity": (raw_config('"rope_theta": -Infinity'), "bad-json"),
    "infinity by exponent": (raw_config('"rope_theta": 1e999'), "bad-json"),
    "infinity in a list": (raw_config('"rope": {"long_factor": [1.0, Infinity]}'), "bad-json"),
    "number of 5000 digits": (raw_config('"rope_theta": ' + "9" * 5000), "bad-json"),
    "deep lists": (raw_config('"a": ' + "[" * 100_000), "bad-json"),
    "deep objects": (raw_config('"a": ' + '{"a":' * 20_000 + "1" + "}" * 20_000), "bad-json"),
    "2 MiB": (raw_config('"a": "' + "a" * 2**21 + '"'), "json-length"),
    "no model_type": ({key: CONFIG[key] for key in CONFIG if key != "model_type"}, "architecture"),
    "model_type a list": (CONFIG | {"model_type": ["llama"]}, "architecture"),
    "model_type a path": (CONFIG | {"model_type": "../llama"}, "architecture"),
    "100000 layers": (CONFIG | {"num_hidden_layers": 100_000}, "size-range"),
    "-1 layers": (CONFIG | {"num_hidden_layers": -1}, "size-range"),
    "0 layers": (CONFIG | {"n_layer": 0}, "size-range"),
    "layers true": (CONFIG | {"num_hidden_layers": True}, "size-range"),
    "layers a fraction": (CONFIG | {"num_hidden_layers": 2.5}, "size-range"),
    "layers text": (CONFIG | {"num_hidden_layers": "12"}, "size-range"),
    "layers a list": (CONFIG | {"num_hidden_layers": [1]}, "size-range"),
    "GPT-2 name beside": (CONFIG | {"n_layer": 513}, "size-range"),
    "hidden size 1e9": (CONFIG | {"hidden_size": 10**9}, "size-range"),
    "hidden size 4": (CONFIG | {"n_embd": 4}, "size-range"),
    "no heads": (CONFIG | {"num_attention_heads": 0}, "size-range"),
    "no key-value heads": (CONFIG | {"num_key_value_heads": 0}, "size-range"),
    "uneven key-value heads": (CONFIG | {"num_key_value_heads": 3}, "size-heads"),
    "vocabulary 1e12": (CONFIG | {"vocab_size": 10**12}, "size-range"),
    "positions 1e9": (CONFIG | {"max_position_embeddings": 10**9}, "size-range"),
    "nested size": (CONFIG | {"text_config": {"num_hidden_layers": 100_000}}, "size-range"),
    "size in a list": (CONFIG | {"parts": [{"n_positions": 0}]}, "size-range"),
    "auto_map": (CONFIG | {"auto_map": REMOTE}, "code"),
    "auto_map nested": (CONFIG | {"text_config": {"auto_map": REMOTE}}, "code"),
    "custom_generate": (CONFIG | {"custom_generate": "evil/generate"}, "code"),
    "hub kernel": (CONFIG | {"_attn_implementation": "evil/kernel"}, "attention"),
    "hub kernel by part": (
        CONFIG | {"attn_implementation": {"": "sdpa", "text_config": "evil/kernel"}},
        "attention",
    ),
    "hub kernel nested": (
        CONFIG | {"a": {"_attn_implementation_internal": "flash_attention_3"}},
        "attention",
    ),
    "quantized": (CONFIG | {"quantization_config": {"quant_method": "gptq"}}, "quantized"),
    "quantized, empty": (CONFIG | {"quantization_config": {}}, "quantized"),
    "encoder-decoder": (CONFIG | {"is_encoder_decoder": True}, "encoder-decoder"),
    "another config": (CONFIG | {"configuration_files": ["config.4.0.0.json"]}, "redirect"),
    "other weights": (CONFIG | {"transformers_weights": "other.safetensors"}, "redirect"),
}


@pytest.mark.parametrize(("config", "code"), BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_bad_configs_are_refused(tmp_path: Path, config: Any, code: str) -> None:
    refused(check_folder, write(tmp_path, config), code)


def described(**changes: Any) -> bytes:
    return one_tensor(64, **changes)


LONG, MANY = "n" * 513, 100_001
EMPTY = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
BAD_WEIGHTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "json-length"),
    "7 bytes": (b"\x02\0\0\0\0\0\0", "json-length"),
    "length only": (struct.pack("<Q", 2), "json-length"),
    "length 0": (safetensors(HEADER, length=0), "json-length"),
    "length 2**64 - 1": (safetensors(HEADER, length=2**64 - 1), "json-length"),
    "length past the end": (safetensors(HEADER, length=len(json.dumps(HEADER)) + 97), "json-length"),
    "17 MiB header": (safetensors(HEADER | {"__metadata__": {"a": "a" * 17 * 2**20}}), "json-length"),
    "length too short": (safetensors(HEADER, length=40), "bad-json"),
    "not JSON": (safetensors(b"pickle me"), "bad-json"),
    "a list": (safetensors([HEADER]), "bad-json"),
    "not UTF-8": (safetensors(b'{"\xff\xfe": 1}'), "bad-json"),
    "deep": (safetensors(b'{"a":' * 5000), "bad-json"),
    "NaN offset": (described(data_offsets=[0, float("nan")]), "bad-json"),
    "no tensors": (safetensors({}, b""), "file-size"),
    "only notes": (safetensors({"__metadata__": {}}, b""), "file-size"),
    "notes with a number": (safetensors(HEADER | {"__metadata__": {"a": 1}}), "bad-header"),
    "notes a list": (safetensors(HEADER | {"__metadata__": ["a"]}), "bad-header"),
    "tensor null": (safetensors({"embed": None}), "bad-header"),
    "no shape": (safetensors({"embed": {"dtype": "F32", "data_offsets": [0, 4]}}), "bad-header"),
    "one entry more": (described(strides=[8, 1]), "bad-header"),
    "empty name": (one_tensor(name=""), "tensor-name"),
    "long name": (one_tensor(name=LONG), "tensor-name"),
    "unknown dtype": (described(dtype="Q4"), "tensor-dtype"),
    "dtype a number": (described(dtype=16), "tensor-dtype"),
    "dtype a list": (described(dtype=["BF16"]), "tensor-dtype"),
    "shape text": (described(shape="48"), "tensor-shape"),
    "shape a number": (described(shape=32), "tensor-shape"),
    "shape null": (described(shape=None), "tensor-shape"),
    "negative shape": (described(shape=[-4, -8]), "tensor-shape"),
    "shape true": (described(shape=[True, 32]), "tensor-shape"),
    "shape with fractions": (described(shape=[4.0, 8.0]), "tensor-shape"),
    "nine dimensions": (described(shape=[1] * 8 + [32]), "tensor-shape"),
    "overflowing dimension": (described(shape=[2**64]), "tensor-shape"),
    "overflowing product": (described(shape=[2**40, 2**40]), "tensor-length"),
    "one offset": (described(data_offsets=[64]), "tensor-shape"),
    "three offsets": (described(data_offsets=[0, 32, 64]), "tensor-shape"),
    "offsets an object": (described(data_offsets={"0": 0, "1": 64}), "tensor-shape"),
    "negative offset": (described(data_offsets=[-64, 0]), "tensor-shape"),
    "reversed offsets": (described(data_offsets=[64, 0]), "tensor-length"),
    "dtype does not fit": (described(dtype="F32"), "tensor-length"),
    "shape does not fit": (described(shape=[4, 9]), "tensor-length"),
    "overlap": (safetensors(HEADER | {"norm": F32 | {"data_offsets": [32, 64]}}), "tensor-place"),
    "same place": (safetensors({"a": BF16, "b": BF16}, bytes(64)), "tensor-place"),
    "same name": (
        safetensors(b'{"a":%b,"a":%b}' % (json.dumps(BF16).encode(), json.dumps(F32).encode())),
        "tensor-place",
    ),
    "hole": (
        safetensors({"embed": BF16, "norm": F32 | {"data_offsets": [68, 100]}}, bytes(100)),
        "tensor-place",
    ),
    "hole at the start": (one_tensor(68, data_offsets=[4, 68]), "tensor-place"),
    "offsets past the end": (safetensors(HEADER, bytes(95)), "file-size"),
    "trailing bytes": (safetensors(HEADER, bytes(97)), "file-size"),
    "far offset": (described(data_offsets=[2**62, 2**62 + 64]), "tensor-place"),
    "100001 tensors": (safetensors({f"t{i}": EMPTY for i in range(MANY)}, b""), "too-many"),
    "a million objects": (
        safetensors(b"{" + b",".join(b'"%d":{}' % i for i in range(10**6)) + b"}"),
        "too-many",
    ),
    "a million brackets": (safetensors(b'{"a":[' + b"[]," * 10**6 + b"1]}"), "too-many"),
}


@pytest.mark.parametrize(("raw", "code"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_bad_safetensors_are_refused(tmp_path: Path, raw: bytes, code: str) -> None:
    refused(check_folder, write(tmp_path, **{SINGLE: raw}), code)


BAD_INDEXES: dict[str, tuple[dict[str, Any], str]] = {
    "no map": ({INDEX: {"metadata": {}}}, "bad-index"),
    "empty map": ({INDEX: {"weight_map": {}}}, "bad-index"),
    "map a list": ({INDEX: {"weight_map": ["embed"]}}, "bad-index"),
    "not JSON": ({INDEX: b'{"weight_map": '}, "bad-json"),
    "leaves the folder": ({"weight_map": {"embed": "../other/model.safetensors"}}, "shard-name"),
    "absolute": ({"weight_map": {"embed": "/etc/model.safetensors"}}, "shard-name"),
    "backslash": ({"weight_map": {"embed": "..\\model.safetensors"}}, "shard-name"),
    "line break": ({"weight_map": {"embed": SHARDS[0] + "\n"}}, "shard-name"),
    "pickle shard": ({"weight_map": {"embed": "model.bin"}}, "shard-name"),
    "shard a number": ({"weight_map": {"embed": 1}}, "shard-name"),
    "shard a list": ({"weight_map": {"embed": [SHARDS[0]]}}, "shard-name"),
    "missing shard": ({"weight_map": {"embed": "model-3.safetensors"}}, "unreadable"),
    "truncated shard": ({SHARDS[1]: b"\x10\0\0\0\0\0\0\0{"}, "json-length"),
    "tensor in the other shard": ({"weight_map": {"embed": SHARDS[0], "norm": SHARDS[0]}}, "tensor-missing"),
    "tensor in no shard": ({"weight_map": {"embed": SHARDS[0], "head": SHARDS[1]}}, "tensor-missing"),
    "tensor in two shards": (
        {SHARDS[1]: safetensors({"norm": F32 | {"data_offsets": [0, 32]}, "embed": BF16 | {"data_offsets": [32, 96]}})},
        "repeated-name",
    ),
    "1001 shards": ({"weight_map": {f"t{i}": f"m{i}.safetensors" for i in range(1001)}}, "too-many"),
}


@pytest.mark.parametrize(("files", "code"), BAD_INDEXES.values(), ids=BAD_INDEXES)
def test_bad_indexes_are_refused(tmp_path: Path, files: dict[str, Any], code: str) -> None:
    refused(check_folder, sharded(tmp_path, **files), code)


def test_headers_of_many_shards_do_not_add_up(tmp_path: Path) -> None:
    for index in range(3):
        header = {"__metadata__": {"a": "a" * 6 * 2**20}, f"t{index}": BF16}
        (tmp_path / f"m{index}.safetensors").write_bytes(safetensors(header, bytes(64)))
    write(tmp_path, **{INDEX: {"weight_map": {f"t{index}": f"m{index}.safetensors" for index in range(3)}}})
    refused(check_folder, tmp_path, "json-length")


BAD_FOLDERS: dict[str, tuple[dict[str, Any], str]] = {
    "pickle": ({"pytorch_model.bin": b"\x80\x04."}, "pickle"),
    "old checkpoint": ({"consolidated.00.PTH": b"\x80\x04."}, "pickle"),
    "ckpt": ({"weights.ckpt": b"PK"}, "pickle"),
    "no weights": ({"README.md": b"hello"}, "no-weights"),
    "other formats": ({"weights.npz": b"PK", "tf_model.h5": b"HDF", "weights.gguf": b"GGUF"}, "no-weights"),
    "program": ({SINGLE: safetensors(HEADER), "modeling_evil.py": b"print(1)"}, "refused-file"),
    "program in capitals": ({SINGLE: safetensors(HEADER), "X.PY": b""}, "refused-file"),
    "adapter": ({SINGLE: safetensors(HEADER), "adapter_config.json": b"{}"}, "refused-file"),
    "training checkpoint": (
        {SINGLE: safetensors(HEADER), "shard-00000-model-00000-of-00001.safetensors": b""},
        "refused-file",
    ),
    "program of the tokenizer": (
        {SINGLE: safetensors(HEADER), "tokenizer_config.json": {"auto_map": REMOTE}},
        "code",
    ),
    "program of generation": (
        {SINGLE: safetensors(HEADER), "generation_config.json": {"custom_generate": "x"}},
        "code",
    ),
    "damaged tokenizer config": ({SINGLE: safetensors(HEADER), "tokenizer_config.json": b"["}, "json-length"),
}


@pytest.mark.parametrize(("files", "code"), BAD_FOLDERS.values(), ids=BAD_FOLDERS)
def test_bad_folders_are_refused(tmp_path: Path, files: dict[str, Any], code: str) -> None:
    write(tmp_path, **files)
    if SINGLE not in files:
        (tmp_path / SINGLE).unlink()
    refused(check_folder, tmp_path, code)


@pytest.mark.parametrize("name", ["missing", "a\0b", "a\ud800b", "a" * 300, "loop/config.json"])
def test_places_without_a_model_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    refused(check_folder, tmp_path / name, "not-found")
    refused(check_gguf, tmp_path / name, "not-found")


def test_a_file_is_not_a_folder_and_a_folder_is_not_a_file(tmp_path: Path) -> None:
    write(tmp_path / "model")
    refused(check_folder, tmp_path / "model" / "config.json", "not-a-folder")
    refused(check_gguf, tmp_path / "model", "unreadable")
    (tmp_path / "model" / SINGLE).unlink()
    (tmp_path / "model" / SINGLE).mkdir()
    refused(check_folder, tmp_path / "model", "unreadable")


@pytest.mark.parametrize("name", ["config.json", SINGLE, "tokenizer.json", "README.md"])
def test_a_pipe_neither_passes_nor_waits(tmp_path: Path, name: str) -> None:
    (write(tmp_path) / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    refused(check_folder, tmp_path, "special-file")
    refused(check_gguf, tmp_path / name, "special-file")


def test_large_tokenizer_and_sparse_weights_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    os.truncate(tmp_path / SINGLE, 2**36)
    refused(check_folder, tmp_path, "file-size")
    (tmp_path / "tokenizer.json").touch()
    os.truncate(tmp_path / "tokenizer.json", 64 * 2**20 + 1)
    refused(check_folder, tmp_path, "too-large")


@pytest.mark.parametrize("name", ["config.json", SINGLE, "tokenizer.json"])
def test_links_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "other", **{"tokenizer.json": b"{}", SINGLE: safetensors(HEADER)})
    (write(tmp_path / "model") / name).unlink(missing_ok=True)
    (tmp_path / "model" / name).symlink_to(f"../other/{name}")
    refused(check_folder, tmp_path / "model", "outside-link")


def test_links_inside_the_folder_and_to_the_folder_are_accepted(tmp_path: Path) -> None:
    (write(tmp_path / "model") / SINGLE).rename(tmp_path / "model" / "weights")
    (tmp_path / "model" / SINGLE).symlink_to("weights")
    (tmp_path / "model" / "broken.txt").symlink_to("nothing")
    (tmp_path / "alias").symlink_to("model")
    assert check_folder(tmp_path / "alias").path == (tmp_path / "model").resolve()


@pytest.mark.parametrize("shared", [False, True])
def test_the_hugging_face_cache_is_accepted(tmp_path: Path, shared: bool) -> None:
    """snapshots link to blobs of the repository, which may be links to blobs of the whole cache."""
    repository, snapshot = tmp_path / "models--a--b", tmp_path / "models--a--b" / "snapshots" / "1f"
    blobs = write(repository / "blobs")
    snapshot.mkdir(parents=True)
    for name in ("config.json", SINGLE):
        if shared:
            (tmp_path / "blobs" / "ab").mkdir(parents=True, exist_ok=True)
            (blobs / name).rename(tmp_path / "blobs" / "ab" / name)
            (blobs / name).symlink_to(f"../../blobs/ab/{name}")
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    assert check_folder(snapshot).parameters == 40
    (tmp_path / "secret.txt").write_text("secret")
    (snapshot / "vocab.txt").symlink_to("../../../secret.txt")
    refused(check_folder, snapshot, "outside-link")


def test_names_in_messages_are_printable(tmp_path: Path) -> None:
    write(tmp_path, **{SINGLE: safetensors(HEADER)})
    (tmp_path / "a\n\x1b[31m\u202eb.py").touch()
    refused(check_folder, tmp_path, "refused-file")


def test_a_good_gguf_file_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "good.gguf").write_bytes(gguf())
    files = check_gguf(tmp_path / "good.gguf")
    assert (files.path, files.kind) == ((tmp_path / "good.gguf").resolve(), "gguf")
    assert (files.architecture, files.parameters, files.tensor_bytes) == ("llama", 136, 168)
    assert files.dtypes == {"Q8_0", "F32"}


GOOD_GGUFS = {
    "version 2": gguf(start=b"GGUF" + struct.pack("<I", 2)),
    "alignment 64": gguf(
        general__alignment=number(64), infos=(info(), info("norm", (8,), 0, 192)), data=224, alignment=64
    ),
    "every kind of value": gguf(
        **{f"kind{kind}": struct.pack("<I", kind) + bytes(size) for kind, size in preflight.GGUF_BYTES.items() if size}
    ),
    "other order": gguf(infos=(info("norm", (8,), 0, 160), info())),
    "four dimensions": gguf(infos=(info(shape=(32, 1, 2, 2)),)),
    "data beyond the tensors": gguf(data=4096),
}


@pytest.mark.parametrize("raw", GOOD_GGUFS.values(), ids=GOOD_GGUFS)
def test_usual_gguf_files_are_accepted(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "model.gguf").write_bytes(raw)
    assert check_gguf(tmp_path / "model.gguf").architecture == "llama"


@pytest.mark.parametrize("kind", preflight.GGML_TYPES)
def test_every_ggml_type_is_measured(tmp_path: Path, kind: int) -> None:
    name, elements, size = preflight.GGML_TYPES[kind]
    (tmp_path / "model.gguf").write_bytes(gguf(infos=(info(shape=(elements, 3), kind=kind),), data=3 * size))
    files = check_gguf(tmp_path / "model.gguf")
    assert (files.parameters, files.tensor_bytes, files.dtypes) == (3 * elements, 3 * size, {name})
    (tmp_path / "model.gguf").write_bytes(gguf(infos=(info(shape=(elements, 3), kind=kind),), data=3 * size - 1))
    refused(check_gguf, tmp_path / "model.gguf", "file-size")


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


def mutated(raw: bytes, chance: random.Random) -> bytes:
    """A few bytes replaced, removed, repeated, or set to the values that break careless arithmetic."""
    damaged = bytearray(raw)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(damaged))
        wide = chance.choice([1, 1, 1, 4, 8])
        letter = bytes([chance.choice(b'0123456789-.,:[]{}"')])
        again = damaged[place : place + 9] * 2
        damaged[place : place + wide] = chance.choice(
            [letter, letter, chance.randbytes(wide), b"\xff" * wide, bytes(wide), b"", again]
        )
    return bytes(damaged)


@pytest.mark.parametrize("target", ["config.json", SINGLE, INDEX, SHARDS[0], "model.gguf"])
def test_random_damage_is_accepted_or_refused_and_nothing_else(tmp_path: Path, target: str) -> None:
    chance = random.Random(20261)
    (write if target in ("config.json", SINGLE) else sharded)(tmp_path)
    (tmp_path / "model.gguf").write_bytes(GOOD)
    raw = (tmp_path / target).read_bytes()
    check: Callable[[], object] = (
        (lambda: check_gguf(tmp_path / target)) if target == "model.gguf" else (lambda: check_folder(tmp_path))
    )
    check()
    refusals = 0
    for _ in range(100):
        (tmp_path / target).write_bytes(mutated(raw, chance))
        try:
            check()
        except ModelRejected as error:
            refusals += 1
            assert error.code and str(error).endswith(".")
    assert refusals > 20


def test_memory_is_refused_above_80_percent() -> None:
    check_memory(800, 1000)
    check_memory(1, None)
    with pytest.raises(ModelRejected, match=r"needs 9\.0 GB .* free 10\.0 GB") as caught:
        check_memory(9 * 10**9, 10**10)
    assert caught.value.code == "memory"


@pytest.mark.parametrize(
    ("limit", "used", "cached", "free"),
    [
        ("1000", "400", "inactive_file 100\n", 700),
        ("1000", "400", "", 600),
        ("100", "400", "", 0),
        ("max", "400", "", None),
    ],
)
def test_free_memory_heeds_the_limit_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, used: str, cached: str, free: int | None
) -> None:
    group = tmp_path / "group" / "own"
    group.mkdir(parents=True)
    (tmp_path / "cgroup").write_text("4:memory:/v1\n0::/group/own\n")
    monkeypatch.setattr(preflight, "CGROUPS", tmp_path)
    monkeypatch.setattr(preflight, "OWN_CGROUP", tmp_path / "cgroup")
    unlimited = free_bytes()
    for name, content in {"max": limit, "current": used, "stat": "anon 5\n" + cached}.items():
        (group.parent / f"memory.{name}").write_text(content + "\n")
    assert free_bytes() == free if free is not None else free_bytes() > unlimited / 2
    monkeypatch.setattr(preflight, "OWN_CGROUP", tmp_path / "none")
    assert free_bytes() > unlimited / 2


def test_the_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    refused(file_sha256, tmp_path / "b", "not-found")


def test_it_needs_no_torch() -> None:
    source = Path(preflight.__file__).read_text()
    assert not any(f"import {name}" in source for name in ("torch", "transformers", "numpy", "safetensors", "gguf"))
