"""The command line: records on standard output, everything else on standard error."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from explorer.__main__ import main
from explorer.commands import page
from explorer.measure import machine
from explorer.studies import profiling
from explorer.ui.standing import standing
from explorer.values.recipe import Recipe

READING = {"median", "low", "high", "n"}


@pytest.fixture
def model(folders: dict[str, Path]) -> str:
    return str(folders["llama"])


@pytest.fixture
def text(tmp_path: Path) -> str:
    file = tmp_path / "own.txt"
    file.write_text("The cat sat on the mat.\n---\nThe dog ran to the river.")
    return str(file)


def records(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def measure(model: str, text: str, *more: str) -> int:
    return main(["measure", "--model", model, "--text", text, "--json", "--tokens", "20", "--rounds", "1", *more])


def test_a_record_has_every_documented_key(model: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(model, text, "--sparsity", "0.5") == 0
    (record,) = records(capsys)
    assert set(record) == {"recipe", "model", "size", "speed", "quality", "questions", "cost", "seconds"}
    assert Recipe.from_dict(record["recipe"]) == Recipe(sparsity=0.5) and record["model"] == model
    assert set(record["size"]) >= {"file_bytes", "resident_bytes", "parameters", "compression_ratio", "predicted_bytes"}
    assert record["size"]["file_bytes"] == record["size"]["predicted_bytes"] > 0
    for name in ("prefill_ms", "ms_per_token", "tokens_per_second"):
        reading = record["speed"][name]
        assert (
            set(reading) == READING and 0 < reading["low"] <= reading["median"] <= reading["high"] and reading["n"] > 0
        )
    assert isinstance(record["speed"]["kernel"], str)
    assert set(record["quality"]) >= {"perplexity", "perplexity_original", "kl", "top1_agreement", "tokens"}
    asked = record["questions"]
    assert asked["asked"] == asked["of"] == 132 and len(asked["by_kind"]) == 6
    assert asked["lost"] + asked["gained"] == len(asked["flipped"])
    assert record["quality"]["tokens"] > 10 and record["cost"]["flops_per_token"] > 0
    assert set(record["seconds"]) == {"load", "prepare", "apply", "measure"} and min(record["seconds"].values()) > 0


def test_a_record_has_the_same_keys_whatever_the_recipe(
    model: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure(model, text, "--bits", "4") == 0
    assert set(records(capsys)[0]["seconds"]) == {"load", "prepare", "apply", "measure"}


def test_several_values_give_every_combination_in_turn(
    model: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure(model, text, "--bits", "8", "4", "3") == 0
    found = records(capsys)
    assert [record["recipe"]["bits"] for record in found] == [8, 4, 3]
    assert found[0]["quality"]["kl"] < found[1]["quality"]["kl"] < found[2]["quality"]["kl"]
    assert measure(model, text, "--bits", "8", "4", "--head-bits", "16", "4") == 0
    assert [(r["recipe"]["bits"], r["recipe"]["head_bits"]) for r in records(capsys)] == [
        (8, 16),
        (8, 4),
        (4, 16),
        (4, 4),
    ]


def test_the_original_measured_against_itself(model: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(model, text) == 0
    (record,) = records(capsys)
    assert record["quality"]["kl"] == 0 and record["quality"]["top1_agreement"] == 1
    assert record["size"]["compression_ratio"] == 1 and record["speed"]["kernel"] == "dense"


def test_without_json_it_prints_a_table(model: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    zeros = ["--sparsity", "0.5", "--prune", "magnitude"]
    assert main(["measure", "--model", model, "--text", text, *zeros, "--tokens", "9", "--rounds", "1"]) == 0
    out = capsys.readouterr().out
    for word in ("of 132 easy ones right", "zeros", "MB", "ms/token", "KL", "perplexity", "GFLOP", "note"):
        assert word in out


BAD = {
    "sparsity beyond its range": ["measure", "--sparsity", "0.95"],
    "keep below its range": ["measure", "--keep", "0"],
    "bits that do not exist": ["measure", "--bits", "9"],
    "a group that does not exist": ["measure", "--group", "13"],
    "not a number": ["measure", "--sparsity", "nan"],
    "no rounds": ["measure", "--rounds", "0"],
    "fewer than no tokens": ["measure", "--tokens", "-1"],
    "a text that is not there": ["measure", "--text", "/no/such/text"],
    "two recipes for one folder": ["export", "--bits", "4", "3", "--out", "x"],
    "a folder that is there": ["export", "--out", "/tmp"],
}


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD)
def test_bad_input_ends_with_2_and_one_line(
    model: str,
    text: str,
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    command, *rest = arguments
    assert main([command, "--model", model, *rest]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and err.startswith("size-explorer: ")


@pytest.mark.parametrize("name", ["/no/such/folder", "someone/unknown", "nothing.gguf"])
def test_a_model_that_is_not_there_ends_with_2_and_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "--model", name]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and len(err) > 30


@pytest.mark.parametrize("content", [b"", b"a", b"\xff\xfe\x00", b"\n---\n\n---\n"])
def test_a_text_that_cannot_be_used_ends_with_2(
    model: str, tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    code = measure(model, str(tmp_path / "bad.txt"))
    assert code == (0 if content == b"a" else 2)  # with the first token before it, one token can be predicted
    if code:
        assert "text" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["dance"], ["measure", "--bits", "four"], ["generate"], ["--port", "x"]])
def test_words_that_are_no_command_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--port", "7870", "--no-browser"], ["page"]])
def test_without_a_command_it_is_the_page(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[argparse.Namespace] = []
    monkeypatch.setattr(page, "_page", asked.append)
    assert main(arguments) == 0
    assert asked[0].port == (7870 if "--port" in arguments else None) and asked[0].host is None
    assert standing({}, asked[0].host, asked[0].port).host == "127.0.0.1"


@pytest.mark.parametrize(
    ("environment", "seen"),
    [
        ({}, False),
        ({"DISPLAY": ":0"}, True),
        ({"WAYLAND_DISPLAY": "w"}, True),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "a"}, False),
    ],
)
def test_a_browser_opens_only_where_it_is_seen(
    environment: dict[str, str], seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", "linux")
    assert page.has_display() is seen


def test_generate_writes_with_the_original_and_the_compressed(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", "--model", model, "--prompt", "the cat", "--tokens", "6", "--bits", "16", "2", "--json"]
    assert main(arguments) == 0
    (first,) = records(capsys)
    assert set(first) == {"original", "2 bits"} and first["original"] != first["2 bits"]
    assert main(arguments) == 0
    assert records(capsys) == [first]


def test_a_prompt_that_cannot_be_used_ends_with_2(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--model", model, "--prompt", "x" * 30_000]) == 2
    assert "too long" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--bits", "4"], ["--sparsity", "0.5"], ["--keep", "0.6", "--bits", "3"]], ids=str)
def test_what_was_exported_generates_the_same(
    model: str, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small"
    assert main(["export", "--model", model, *flags, "--out", str(out)]) == 0
    assert "bytes, KL to the variant" in capsys.readouterr().out
    assert json.loads((out / "metrics.json").read_text())["quality"]["tokens"] > 0
    prompt = ["--prompt", "the cat", "--tokens", "8", "--raw", "--json"]
    assert main(["generate", "--model", str(out), *prompt]) == 0
    (from_folder,) = records(capsys)
    assert main(["generate", "--model", model, *flags, *prompt]) == 0
    (made_again,) = records(capsys)
    (words, text), = from_folder.items()  # fmt: skip
    assert made_again[words] == text


def test_an_export_with_a_packed_head_generates(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--model", model, "--bits", "4", "--head-bits", "4", "--out", str(tmp_path / "small")]) == 0
    assert main(["generate", "--model", str(tmp_path / "small"), "--prompt", "the cat", "--tokens", "3"]) == 0


def test_an_export_refuses_a_prompt_beyond_its_context(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--model", model, "--bits", "4", "--out", str(tmp_path / "small")]) == 0
    assert main(["generate", "--model", str(tmp_path / "small"), "--prompt", "xyz " * 400, "--tokens", "3"]) == 2
    assert "too long" in capsys.readouterr().err


def test_a_model_of_short_context_is_measured_within_it(folders: dict[str, Path], tmp_path: Path, text: str) -> None:
    short = Path(shutil.copytree(folders["gpt2"], tmp_path / "short"))
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"n_positions": 64}))
    tensors = load_file(short / "model.safetensors")
    name = next(name for name in tensors if name.endswith("wpe.weight"))
    tensors[name] = tensors[name][:64].clone()
    save_file(tensors, short / "model.safetensors", metadata={"format": "pt"})
    assert measure(str(short), text) == 0


def test_a_program_around_it_sees_code_2_one_line_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "explorer", "measure", "--model", str(tmp_path), "--bits", "9"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=120)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "bits must be one of" in done.stderr


def test_repetition_names_every_text_and_counts_the_broken(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repetition", "--model", model, "--bits", "4", "--quant", "rtn", "--tokens", "6"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 25 and "of 24 texts fell apart" in lines[-1]


def test_speed_says_where_the_time_goes_and_what_limits_it(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, value in (
        (machine, "READ_BYTES", 2**16),
        (machine, "CACHED_BYTES", 2**14),
        (profiling, "BATCHES", (1,)),
        (profiling, "PROMPTS", (4, 8)),
    ):
        monkeypatch.setattr(module, name, value)
    asked = ["speed", "--model", model, "--bits", "4", "--quant", "rtn", "--rounds", "2", "--prompt-tokens", "8"]
    assert main(asked) == 0
    text = capsys.readouterr().out
    for word in ("timed on", "ratio", "one token", "framework", "roofline", "energy", "surface", "kernels", "int4pack"):
        assert word in text
    assert main([*asked, "--json"]) == 0
    (record,) = records(capsys)
    assert set(record) == {"recipe", "model", "original", "compressed", "machine", "surface"}
    assert record["compressed"]["speed"]["decode_ratio"]["n"] == 2 and len(record["surface"]) == 2
    assert main(["speed", "--model", model, "--batch", "0"]) == 2


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_result_survives_a_terminal_that_lacks_its_signs(encoding: str, tmp_path: Path) -> None:
    named = tmp_path / "Größe 大"
    for arguments, code in ((["what-it-takes", "SmolLM2-135M"], 0), (["measure", "--model", str(named)], 2)):
        command = [sys.executable, "-m", "explorer", *arguments]
        done = subprocess.run(
            command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding}, timeout=120
        )
        assert done.returncode == code and b"Traceback" not in done.stderr and b"codec" not in done.stderr
        said = done.stderr if code else done.stdout
        assert (b"on this computer" if code else b"billion parameters") in said and b"?" in said
