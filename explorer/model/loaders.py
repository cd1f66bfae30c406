"""transformers' loaders as this program calls them: on a folder of this computer, running no code that lies there. The
only importer of them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.auto import modeling_auto as auto
from transformers.utils import logging

SAFE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
REPORTED = {"output_loading_info": True, "ignore_mismatched_sizes": True}  # what does not fit is told, then refused


def model_of(folder: Path, **options: Any) -> tuple[Any, Mapping[str, Iterable[Any]]]:
    """A model, and what transformers tells of loading it (see `check_whole`)."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, **options, **REPORTED, **SAFE)
    return model, info


def decoded_model_of(folder: Path, **options: Any) -> tuple[Any, Mapping[str, Iterable[Any]]]:
    """A quantized checkpoint as a plain model of its decoded values: what `model_of` gives of any other."""
    config = AutoConfig.from_pretrained(folder, **SAFE)
    for part in _parts(config):
        part.quantization_config = {**part.quantization_config, "dequantize": True}
    model, info = model_of(folder, config=config, **options)
    for part in _parts(model.config):
        del part.quantization_config
    for part in (model.config, model.config.get_text_config()):
        part.__dict__.pop("_is_quantized", None)
    model.hf_quantizer, model.is_quantized = None, False
    return model, info


def filled_model_of(folder: Path, tensors: dict[str, Any], **options: Any) -> tuple[Any, Mapping[str, Iterable[Any]]]:
    """The model of a folder's config, without what it says of quantization, filled with these tensors."""
    config = AutoConfig.from_pretrained(folder, **SAFE)
    for part in _parts(config):
        del part.quantization_config
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    model, info = kind.from_pretrained(None, config=config, state_dict=tensors, **options, **REPORTED)
    model.generation_config = generation_of(folder) or model.generation_config
    return model, info


def generation_of(folder: Path) -> Any:
    """What a folder says of how its model writes, its end tokens among others; None where it says nothing."""
    there = (folder / "generation_config.json").is_file()
    return GenerationConfig.from_pretrained(folder, local_files_only=True) if there else None


def _parts(config: Any) -> list[Any]:
    """A config and that of its language model, where they speak of quantization."""
    parts = {id(part): part for part in (config, config.get_text_config())}
    return [part for part in parts.values() if getattr(part, "quantization_config", None) is not None]


def config_of(folder: Path, **options: Any) -> Any:
    return AutoConfig.from_pretrained(folder, **options, **SAFE)


def empty_model_of(folder: Path) -> Any:
    """The model that a folder's config describes; its weights are on the meta device and take no memory."""
    config = config_of(folder)
    with init_empty_weights(include_buffers=False), quiet():
        model = AutoModelForCausalLM.from_config(config, dtype=config.dtype, trust_remote_code=False)
    model.tie_weights()
    _work_out_buffers(model)
    return model


def _work_out_buffers(model: Any) -> None:
    """Those that are in no file, as `from_pretrained` does, in float32 (the constructor works in the model's dtype)."""
    for tensor in model.state_dict(keep_vars=True).values():
        tensor._is_hf_initialized = True
    for module in model.modules():
        module._is_hf_initialized = False
    model.initialize_weights()


def tokenizer_of(folder: Path) -> Any:
    """A folder's own tokenizer.json as it is where the folder says so; otherwise as transformers sees fit: Qwen's class
    cuts texts as Qwen does, whatever is in the file."""
    with suppress(OSError, ValueError):
        about = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        if about.get("tokenizer_class") == "TokenizersBackend" and (folder / "tokenizer.json").is_file():
            return PreTrainedTokenizerFast.from_pretrained(folder, **SAFE)
    return AutoTokenizer.from_pretrained(folder, **SAFE)


def gguf_tokenizer_of(folder: Path, name: str) -> Any:
    """The tokenizer that a .gguf file describes, and not what its family of models usually has."""
    return PreTrainedTokenizerFast.from_pretrained(folder, gguf_file=name, **SAFE)


def is_half(kind: str) -> bool:
    """Whether a type's causal model is the decoder of an encoder-decoder, by itself."""
    halves = (*auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, *auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES)
    composite = (*auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, *auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES)
    return kind in halves and kind not in composite


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and warnings of transformers: this program says itself what it does."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
