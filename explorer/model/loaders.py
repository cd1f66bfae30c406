"""transformers' loaders as this program calls them: on a folder of this computer, running no code that lies there. The
only importer of them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto import modeling_auto as auto
from transformers.utils import logging

SAFE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
REPORTED = {"output_loading_info": True, "ignore_mismatched_sizes": True}  # what does not fit is told, then refused


def model_of(folder: Path, **options: Any) -> tuple[Any, Mapping[str, Iterable[Any]]]:
    """A model, and what transformers tells of loading it (see `check_whole`)."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, **options, **REPORTED, **SAFE)
    return model, info


def empty_model_of(folder: Path) -> Any:
    """The model that a folder's config describes; its weights are on the meta device and take no memory."""
    config = AutoConfig.from_pretrained(folder, **SAFE)
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


def tokenizer_of(folder: Path, **options: Any) -> Any:
    return AutoTokenizer.from_pretrained(folder, **options, **SAFE)


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
