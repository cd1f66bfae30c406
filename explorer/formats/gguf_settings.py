"""What a .gguf file says of its model, from a transformers config: the other way of `model.gguf_settings`. A config
that llama.cpp would run in another way is refused by the name of what it sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from explorer.formats.gguf_rotary import Factors, rotary
from explorer.model.gguf_settings import LAYERS

ARCHITECTURES = {  # transformers' type: llama.cpp's family; those that are read here too
    "bloom": "bloom", "falcon": "falcon", "gemma2": "gemma2", "gemma3": "gemma3", "gemma3_text": "gemma3",
    "gpt2": "gpt2", "lfm2": "lfm2", "llama": "llama", "mamba": "mamba", "mistral": "llama", "nemotron": "nemotron",
    "phi3": "phi3", "qwen2": "qwen2", "qwen2_moe": "qwen2moe", "qwen3": "qwen3", "qwen3_moe": "qwen3moe",
    "stablelm": "stablelm", "starcoder2": "starcoder2",
}  # fmt: skip
# What a family's activation is in llama.cpp, whatever a file says.
ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "bloom": (), "falcon": ("gelu",), "gemma2": ("gelu_pytorch_tanh",), "gemma3": ("gelu_pytorch_tanh",),
    "gpt2": ("gelu_new", "gelu_pytorch_tanh"), "nemotron": ("relu2",), "starcoder2": ("gelu_pytorch_tanh", "gelu"),
}  # fmt: skip
# Values that change what is computed, and for which llama.cpp's families have no place.
MUST_BE: dict[str, dict[str, tuple[Any, ...]]] = {
    "gpt2": {"scale_attn_by_inverse_layer_idx": (False,), "scale_attn_weights": (True,)},
    "bloom": {"apply_residual_connection_post_layernorm": (False,)},
    "falcon": {"alibi": (False,), "new_decoder_architecture": (False,), "multi_query": (True,)}
    | {"parallel_attn": (True,), "bias": (False,)},
    "stablelm": {"qk_layernorm": (False,)},
    "gemma3": {"attn_logit_softcapping": (None,)},
    "qwen2moe": {"decoder_sparse_step": (1,), "mlp_only_layers": ([], None), "norm_topk_prob": (False,)},
    "qwen3moe": {"decoder_sparse_step": (1,), "mlp_only_layers": ([], None), "norm_topk_prob": (True,)},
}
WITHOUT_GROUPS = ("bloom", "gpt2", "mamba")
WITHOUT_WINDOW = ("llama", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "starcoder2", "phi3")  # in llama.cpp
Value = bool | int | float | str | list[int] | list[bool]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`values` by key, those of the family without its name; tensors of factors for positions; what a reader must
    know."""

    architecture: str
    values: Mapping[str, Value]
    factors: Factors
    notes: tuple[str, ...]


def settings(config: Any) -> Settings:
    """What a file says of the text part of this config. ValueError in one sentence for what llama.cpp cannot do."""
    text = config.get_text_config()
    family = ARCHITECTURES.get(text.model_type)
    if family is None:
        raise ValueError(f"Models of the type {text.model_type} are not written as GGUF here.")
    _check(family, text)
    values = _sizes(family, text) | _attention(family, text) | _experts(text) | _own(family, text)
    if hasattr(text, "rope_parameters"):
        turned, factors = rotary(family, text, head_dim_of(text))
        values |= turned
    else:
        factors = {}
    window, longest = getattr(text, "sliding_window", None) or 0, values.get("context_length")
    notes = []
    if family in WITHOUT_WINDOW and _uses_window(text) and isinstance(longest, int) and window < longest:
        notes.append(f"llama.cpp lets it see all tokens, where the original sees the last {window:,}")
    return Settings(architecture=family, values=values, factors=factors, notes=tuple(notes))


def head_dim_of(text: Any) -> int:
    heads = getattr(text, "num_attention_heads", 0) or 1
    return int(getattr(text, "head_dim", None) or text.hidden_size // heads)


def _uses_window(text: Any) -> bool:
    kinds = getattr(text, "layer_types", None)
    return bool(getattr(text, "sliding_window", None)) and (not kinds or "sliding_attention" in kinds)


def _check(family: str, text: Any) -> None:
    act = getattr(text, "hidden_act", None) or getattr(text, "activation_function", None)
    act = getattr(text, "hidden_activation", None) or act
    right = ACTIVATIONS.get(family, ("silu", "swish"))
    odd = {"activation": act} if act is not None and right and act not in right else {}
    odd |= {k: v for k, fine in MUST_BE.get(family, {}).items() if (v := getattr(text, k, fine[0])) not in fine}
    scalar = getattr(text, "query_pre_attn_scalar", None)
    if scalar is not None and scalar != _scalar(family, text):
        odd["query_pre_attn_scalar"] = scalar
    if odd:
        name, value = next(iter(odd.items()))
        raise ValueError(f"llama.cpp's {family} knows no {name} of {value}, so this model is not written as GGUF.")


def _scalar(family: str, text: Any) -> int:
    """What llama.cpp takes for it: 27 billion of Gemma 2 or 3 are told by their blocks."""
    largest = text.num_hidden_layers == {"gemma2": 46, "gemma3": 62}.get(family)
    return text.hidden_size // text.num_attention_heads if largest else head_dim_of(text)


def _sizes(family: str, text: Any) -> dict[str, Value]:
    inner = _first(text, "intermediate_size", "n_inner", "ffn_hidden_size") or 4 * text.hidden_size
    if family == "lfm2" and text.block_auto_adjust_ff_dim:
        inner = int(2 * inner / 3) * (text.block_ffn_dim_multiplier or 1)
        inner = text.block_multiple_of * -(-int(inner) // text.block_multiple_of)
    return {
        "block_count": text.num_hidden_layers,
        "context_length": _first(text, "max_position_embeddings", "n_positions", "seq_length") or 2048,
        "embedding_length": text.hidden_size,
        "feed_forward_length": 0 if family == "mamba" else inner,
        "vocab_size": text.vocab_size,
    }


def _attention(family: str, text: Any) -> dict[str, Value]:
    found: dict[str, Value] = {"attention.head_count": 0 if family == "mamba" else text.num_attention_heads}
    if family == "falcon":
        found["attention.head_count_kv"] = 1
    elif family == "lfm2":
        kinds = text.layer_types
        found["attention.head_count_kv"] = [text.num_key_value_heads * (kind == "full_attention") for kind in kinds]
    elif family not in WITHOUT_GROUPS:
        found["attention.head_count_kv"] = text.num_key_value_heads
    if getattr(text, "head_dim", None) and family not in WITHOUT_GROUPS:
        found |= {f"attention.{part}_length": head_dim_of(text) for part in ("key", "value")}
    if family in ("mamba", "lfm2") or hasattr(text, "rms_norm_eps"):
        found["attention.layer_norm_rms_epsilon"] = _first(text, "rms_norm_eps", "layer_norm_epsilon", "norm_eps")
    else:
        names = ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")
        found["attention.layer_norm_epsilon"] = _first(text, *names)
    return found


def _experts(text: Any) -> dict[str, Value]:
    names = {"expert_count": "num_experts", "expert_used_count": "num_experts_per_tok"}
    names |= {"expert_feed_forward_length": "moe_intermediate_size"}
    names |= {"expert_shared_feed_forward_length": "shared_expert_intermediate_size"}
    given = {key: getattr(text, name, None) for key, name in names.items()}
    return {key: value for key, value in given.items() if value is not None}


def _own(family: str, text: Any) -> dict[str, Value]:
    """What only this family has."""
    if family in ("gemma2", "gemma3"):
        caps = {name: getattr(text, name, None) for name in ("attn_logit_softcapping", "final_logit_softcapping")}
        found: dict[str, Value] = {name: float(cap) for name, cap in caps.items() if cap is not None}
        windows = [kind == "sliding_attention" for kind in text.layer_types]
        if any(windows):
            found["attention.sliding_window"] = text.sliding_window
        every = {"gemma2": 2, "gemma3": 6}[family]
        if any(windows) and windows != [block % every < every - 1 for block in range(len(windows))]:
            found[LAYERS] = windows  # blocks were taken out, or lie otherwise from the start
        return found
    if family == "phi3":
        return {"attention.sliding_window": text.sliding_window or 0}
    if family == "stablelm":
        return {"use_parallel_residual": text.use_parallel_residual}
    if family == "mamba":
        names = {"conv_kernel": "conv_kernel", "state_size": "state_size", "inner_size": "intermediate_size"}
        names |= {"time_step_rank": "time_step_rank"}
        return {f"ssm.{key}": int(getattr(text, name)) for key, name in names.items()}
    return {"shortconv.l_cache": text.conv_L_cache} if family == "lfm2" else {}


def _first(text: Any, *names: str) -> Any:
    return next((value for name in names if (value := getattr(text, name, None))), None)
