"""Is what was opened all that its file holds, and numbers? Asked of folders and of .gguf files alike."""

import importlib
import math
import re
from collections.abc import Iterable, Mapping
from itertools import chain
from types import SimpleNamespace
from typing import Any

import torch

from explorer.model.preflight import ModelFiles, ModelRejected

# Dropped by transformers, and let pass: they are how long contexts are turned, no weights of a layer.
ROTATIONS = re.compile(r"rope_(freqs|factors_long|factors_short)\.weight")


def check_whole(model: Any, info: Mapping[str, Iterable[Any]]) -> None:
    """Refuse a model that was not filled by exactly its file, or with what are no numbers: `info` is transformers'
    loading information (names, or tuples that begin with one). ModelRejected in one plain sentence."""
    for problem, words in (
        ("missing_keys", "lacks"),
        ("unexpected_keys", "has unknown"),
        ("mismatched_keys", "has misshapen"),
    ):
        keys = sorted(key if isinstance(key, str) else key[0] for key in info[problem])
        if keys:
            sentence = f"The file does not fit its config: it {words} {len(keys)} tensors, such as {keys[0]}."
            raise ModelRejected("keys", sentence)
    for key, value in model.config.to_dict().items():
        if isinstance(value, float) and not (math.isfinite(value) and (value >= 0 or "eps" not in key)):
            raise ModelRejected("not-finite", f"The file is damaged: its {key} cannot be {value}.")
    stored = model.state_dict()
    for name, tensor in chain(stored.items(), model.named_buffers()):
        # What is not in the file is worked out from its config. A mask may well be minus infinity, a frequency not.
        wrong = torch.isfinite(tensor).logical_not() if name in stored or "freq" in name else torch.isnan(tensor)
        if tensor.is_floating_point() and wrong.any():
            raise ModelRejected("not-finite", f"The file is damaged: {name} holds values that are not numbers.")


def gguf_info(model: Any, info: Mapping[str, Iterable[Any]], files: ModelFiles) -> Mapping[str, Iterable[Any]]:
    """The loading information of a .gguf file, completed: the older of transformers' two loaders drops tensors that it
    does not know, and leaves zeros where one of two halves is absent."""
    if getattr(getattr(model, "hf_quantizer", None), "supported", True):
        return info
    loader: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    kind = loader.TENSOR_PROCESSORS.get(files.architecture, loader.TensorProcessor)
    known = set[str]()
    for part in (model, *model.children()):  # and none beneath: transformers asks them all, which takes seconds
        flat = SimpleNamespace(config=model.config, state_dict=part.state_dict, named_children=tuple)
        named = loader.get_gguf_hf_weights_map(flat, kind(config=model.config.to_dict()))
        known |= {re.sub("_exps$", "_exps.weight", name) for name in named}
    lacking = known - files.names - {"output.weight"}  # which is the embedding where it is absent
    unknown = {name for name in files.names - known if not ROTATIONS.fullmatch(name)}
    return {**info, "missing_keys": lacking or info["missing_keys"], "unexpected_keys": unknown}
