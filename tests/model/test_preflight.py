"""Damaged and hostile model folders, written here byte by byte: each is refused, quickly, in one sentence."""

import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from explorer.model.gguf_parts import check_gguf
from explorer.model.preflight import check_folder, file_sha256
from tests.model.damage import LONG, damage_at_random, refused

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


@pytest.mark.parametrize("make", [write, sharded])
def test_a_good_folder_is_accepted(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    files = check_folder(make(tmp_path / "good"))
    assert files.architecture == "llama"
    assert (files.parameters, files.tensor_bytes) == (40, 96)
    assert files.bytes_by_format == {"BF16": 64, "F32": 32}


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


MANY = 100_001
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
    assert check_folder(tmp_path / "alias") == check_folder(tmp_path / "model")


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


@pytest.mark.parametrize("target", ["config.json", SINGLE, INDEX, SHARDS[0]])
def test_random_damage_is_accepted_or_refused_and_nothing_else(tmp_path: Path, target: str) -> None:
    (write if target in ("config.json", SINGLE) else sharded)(tmp_path)
    damage_at_random(tmp_path / target, lambda: check_folder(tmp_path))


def test_the_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    refused(file_sha256, tmp_path / "b", "not-found")
