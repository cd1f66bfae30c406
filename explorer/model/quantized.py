"""Checkpoints that are quantized already: of which kind, and whether this program can open their decoded values.
Decided from what the preflight read; knows no torch."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from explorer.model.preflight import ModelFiles, ModelRejected, open_file

NAMES = {  # as configs call them: as people do
    "fp8": "FP8",
    "mxfp4": "MXFP4",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "mlx": "MLX",
    "quanto": "Quanto",
    "torchao": "torchao",
    "modelopt": "ModelOpt",
    "auto-round": "AutoRound",
    "bitnet": "BitNet",
    "higgs": "Higgs",
    "unknown": "its config does not say how",
}
NEEDS = {"fp8": "", "mxfp4": "", "bitsandbytes": "", "compressed-tensors": "compressed_tensors"}  # a package, or none
SIGNS = (  # ends of tensor names that only one kind has, where no config says which
    ("compressed-tensors", (".weight_packed", ".weight_shape")),
    ("gptq", (".qweight", ".g_idx")),
    ("awq", (".qweight", ".qzeros")),
    ("bitsandbytes", (".weight.absmax", ".weight.quant_map")),
    ("bitsandbytes", (".SCB", ".weight")),
    ("mxfp4", ("_blocks", "_scales")),
    ("mlx", (".scales", ".biases")),
    ("fp8", (".weight_scale_inv", ".weight")),
)
README_BYTES = 65_536
BASE = re.compile(r"\A---\n(?:.*\n)*?base_model:\s*(?:\n\s*-\s*)?[\"']?([\w.-]+/[\w.-]+)", re.ASCII)


def decodable(folder: Path, files: ModelFiles) -> str:
    """The kind of a quantized checkpoint that can be decoded here, '' for one that is none. ModelRejected in one
    sentence, which names the original where the folder does, for all others."""
    told = method_of(files.quantization)
    method = told or _signed(folder, files)
    needs = NEEDS.get(method)
    if not method or told and needs is not None and (not needs or find_spec(needs)):
        return method
    base = base_model(folder)
    original = f"the original, {base}" if base else "the original"
    missing = f"opens with `pip install {method}`; or" if told and needs else "cannot be decoded here;"
    sentence = f"This copy is already quantized ({name_of(method)}) and {missing} open {original}."
    raise ModelRejected("quantized", sentence)


def name_of(method: str) -> str:
    return NAMES.get(method) or method.upper()


def note(method: str) -> str:
    """What a reader must know of a decoded model."""
    return f"This copy is stored in {name_of(method)}; the reference here is its decoded values in bfloat16."


def method_of(config: Any) -> str:
    """The kind that a config speaks of, '' where it has nothing to say. Only a short plain word is passed on."""
    if config is None:
        return ""
    config = config if isinstance(config, Mapping) else {}
    if config.get("load_in_4bit") or config.get("load_in_8bit"):
        return "bitsandbytes"
    method = config.get("quant_method")
    if method is None and {"group_size", "bits"} <= config.keys():
        return "mlx"
    plain = isinstance(method, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,32}", method)
    return method.lower() if plain else "unknown"


def base_model(folder: Path) -> str:
    """The original's name, from the front of the model card; '' where it is not there."""
    try:
        with open_file(folder / "README.md") as (file, _):
            front = file.read(README_BYTES).decode(errors="replace").replace("\r\n", "\n")
    except ModelRejected:
        return ""
    front = front.partition("\n---")[0]
    found = BASE.match(front)
    return found[1] if found else ""


def _signed(folder: Path, files: ModelFiles) -> str:
    """The kind that files beside the weights, or names and formats of tensors, speak of."""
    if (folder / "quantize_config.json").exists():
        return "gptq"
    if (folder / "quant_config.json").exists():
        return "awq"
    for method, ends in SIGNS:
        if all(any(name.endswith(end) for name in files.names) for end in ends):
            return method
    eight = any(dtype.startswith("F8") for dtype in files.bytes_by_format)
    return "fp8" if eight and any("scale" in name.rpartition(".")[2] for name in files.names) else ""
