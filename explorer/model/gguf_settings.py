"""What a .gguf file says of its model, in a transformers config: each value is applied, or of no effect, or named, or
the file is refused. transformers reads some of them, for some families, and leaves its own defaults for the rest."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from explorer.model.gguf_header import Header, Value
from explorer.model.gguf_rotary import READ, rope_parameters
from explorer.model.preflight import ModelRejected, require

# Families whose files were opened and compared with the original, value by value (tests/model/test_gguf_families.py).
FAMILIES = {
    "bloom", "falcon", "gemma2", "gemma3", "gpt2", "lfm2", "llama", "mamba", "nemotron", "phi3", "qwen2", "qwen2moe",
    "qwen3", "qwen3moe", "stablelm", "starcoder2",
}  # fmt: skip
NEWLY_LOADED = {"lfm2"}  # by the newer of transformers' two loaders, which reads lists of such files itself
NEWLY_UNDECODABLE = {"Q5_0", "Q5_1", "MXFP4", "NVFP4", "TQ1_0", "TQ2_0"}  # by that one
# A key of the file without its family: how transformers' configs call it; the first that a config has counts.
NAMES: dict[str, tuple[str, ...]] = {
    "vocab_size": ("vocab_size",),
    "context_length": ("max_position_embeddings",),
    "embedding_length": ("hidden_size",),
    "block_count": ("num_hidden_layers",),
    "feed_forward_length": ("intermediate_size", "ffn_hidden_size", "n_inner"),
    "use_parallel_residual": ("use_parallel_residual",),
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads", "num_kv_heads"),
    "attention.key_length": ("head_dim",),
    "attention.value_length": ("head_dim",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps", "layer_norm_epsilon"),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"),
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "expert_count": ("num_experts",),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "expert_weights_norm": ("norm_topk_prob",),
    "ssm.conv_kernel": ("conv_kernel",),
    "ssm.state_size": ("state_size",),
    "ssm.inner_size": ("intermediate_size",),
    "ssm.time_step_rank": ("time_step_rank",),
    "shortconv.l_cache": ("conv_L_cache",),
}
# Where a config has no place for it, the values that mean nothing.
MEANS_NOTHING: dict[str, tuple[Value, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.scale": (0,),
    "attention.shared_kv_layers": (0,),
    "attention.sliding_window": (0,),
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "router_logit_softcapping": (0,),
    "embedding_scale": (0, 1),
    "residual_scale": (0, 1),
    "logit_scale": (0, 1),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "expert_shared_count": (0,),
    "expert_group_count": (0, 1),
    "expert_group_used_count": (0, 1),
    "expert_weights_scale": (0, 1),
    "expert_gating_func": (0, 1),  # 1 is softmax
    "leading_dense_block_count": (0,),
    "nextn_predict_layers": (0,),
    "pooling_type": (0,),
    "ssm.dt_b_c_rms": (False,),
}
ALSO = {"qwen3_moe": {"head_dim"}}  # read by the model, though no field of its config
WITHOUT_EFFECT = {"tensor_data_layout", "context_length", "use_parallel_residual"}
LAYERS = "attention.sliding_window_pattern"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What differs from the config that transformers makes, and what a reader must know."""

    changes: dict[str, Any]
    notes: tuple[str, ...]


def settings(header: Header, config: Any) -> Settings:
    """What to change in transformers' config of this file. ModelRejected where a value changes numbers and cannot be
    applied."""
    changes = _family(header, config) | _from_tensors(header, config)
    notes = []
    for key, value in header.own.items():
        if key == LAYERS or key.removeprefix("rope.") in READ:
            continue
        field = _field(config, NAMES.get(key, ()))
        if isinstance(value, tuple) and header.architecture in NEWLY_LOADED:
            continue
        if field and not isinstance(value, tuple) and not _placed_elsewhere(key, header.architecture):
            changes[field] = None if value == 0 and key in MEANS_NOTHING else value
        elif not _means_nothing(key, value, header, config):
            if key in NAMES or key in MEANS_NOTHING:
                shown = "a list" if isinstance(value, tuple) else value
                words = f"{header.name} sets {key} to {shown}, which cannot be applied to {header.architecture}"
                raise ModelRejected("setting", f"{words}; open the original folder.")
            notes.append(f"{key} is not applied")
    changes |= _layer_types(header, config, changes)
    if _has(config, "rope_parameters"):
        changes |= _rotary(header, config, changes)
    return Settings(changes=changes, notes=tuple(notes))


def changed(config: Any, changes: Mapping[str, Any]) -> Any:
    """The config with these values, checked by transformers as if it had been read so."""
    values = config.to_dict()
    if "num_hidden_layers" in changes and changes["num_hidden_layers"] != config.num_hidden_layers:
        values.pop("layer_types", None)
    return type(config).from_dict(values | changes)


def head_dim_of(header: Header, config: Any, changes: Mapping[str, Any]) -> int:
    """Values of a head, as the file and then the config has it."""
    given = header.own.get("attention.key_length")
    heads = changes.get("num_attention_heads", getattr(config, "num_attention_heads", 1))
    return given if isinstance(given, int) else int(changes.get("hidden_size", config.hidden_size)) // int(heads)


def _has(config: Any, name: str) -> bool:
    """A field of this kind of config: transformers also keeps what it has no field for."""
    fields = {field.name for field in dataclasses.fields(config)} | ALSO.get(config.model_type, set())
    return name in fields or config.attribute_map.get(name) in fields


def _field(config: Any, names: Collection[str]) -> str | None:
    return next((name for name in names if _has(config, name)), None)


def _placed_elsewhere(key: str, architecture: str) -> bool:
    """Falcon's config counts heads for another kind of it; windows are off in Qwen's unless asked for otherwise."""
    return (architecture, key) == ("falcon", "attention.head_count_kv") or (
        architecture.startswith("qwen") and key == "attention.sliding_window"
    )


def _means_nothing(key: str, value: Value, header: Header, config: Any) -> bool:
    """A value that the model would not show, or that follows from the others."""
    if key in WITHOUT_EFFECT or value in MEANS_NOTHING.get(key, ()):
        return True
    says = header.own
    width, heads = says.get("embedding_length"), says.get("attention.head_count")
    if header.architecture == "mamba":  # which has neither heads nor a part that feeds forward
        return (
            key in ("attention.head_count", "attention.head_count_kv", "feed_forward_length")
            and value == 0
            or (key == "ssm.inner_size")
        )
    if isinstance(width, int) and isinstance(heads, int) and heads:
        dim = width // heads
        same = {"attention.head_count_kv": 1 if header.architecture == "falcon" else heads}
        same |= {"feed_forward_length": 4 * width, "attention.key_length": dim, "attention.value_length": dim}
        if key in same:
            return value == same[key]
    longest = says.get("context_length")
    if key == "attention.sliding_window" and isinstance(value, int) and isinstance(longest, int):
        return value >= longest
    return key == "attention.scale" and value == head_dim_of(header, config, {}) ** -0.5


def _family(header: Header, config: Any) -> dict[str, Any]:
    """What llama.cpp knows of a family and no file says, where transformers' default is another."""
    ids = (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
    found: dict[str, Any] = {
        f"{name}_token_id": header.values.get(f"tokenizer.ggml.{own}_token_id") for name, own in ids
    }
    if _has(config, "sliding_window") and not _has(config, "layer_types"):
        found["sliding_window"] = None
    if _has(config, "head_dim"):
        found["head_dim"] = head_dim_of(header, config, {})
    if _has(config, "query_pre_attn_scalar"):  # 27 billion of Gemma 2 or 3 are told by their blocks, as in llama.cpp
        largest = config.num_hidden_layers == {"gemma2": 46, "gemma3": 62}.get(header.architecture)
        width = config.hidden_size // config.num_attention_heads
        found["query_pre_attn_scalar"] = width if largest else head_dim_of(header, config, {})
    if header.architecture == "gemma2":
        found |= {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "sliding_window": 4096}
    if header.architecture == "mamba" and "ssm.inner_size" in header.own:
        inner, width = header.own["ssm.inner_size"], config.hidden_size
        assert isinstance(inner, int)
        whole = f"{header.name} has an ssm.inner_size that is no multiple of its width"
        require(inner % width == 0, "setting", whole)
        found |= {"expand": inner // width, "intermediate_size": inner}
    return found


def _from_tensors(header: Header, config: Any) -> dict[str, Any]:
    """What only the tensors tell."""
    names, found = header.tensors.keys(), dict[str, Any]()
    every = ("attn_q", "attn_k", "attn_v", "attn_output")
    if header.architecture == "llama" and all(f"blk.0.{name}.bias" in names for name in every):
        found["attention_bias"] = True
    if header.architecture == "llama" and all(f"blk.0.ffn_{name}.bias" in names for name in ("gate", "up", "down")):
        found["mlp_bias"] = True
    if header.architecture in ("bloom", "falcon"):  # transformers drops their output, which may be rounded otherwise
        found["tie_word_embeddings"] = "output.weight" not in names
    return found


def _layer_types(header: Header, config: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Which blocks see a window only, of families in which some do."""
    blocks = changes.get("num_hidden_layers", getattr(config, "num_hidden_layers", 0))
    usual = {"gemma2": 2, "gemma3": 6}.get(header.architecture)
    pattern = header.own.get(LAYERS, usual)
    if not usual:
        require(LAYERS not in header.own, "setting", f"{header.name} sets {LAYERS}, which cannot be applied")
        return {}
    if isinstance(pattern, tuple):
        windows = [bool(each) for each in pattern]
        require(len(windows) == blocks, "setting", f"{header.name} is damaged: {LAYERS} does not fit its blocks")
    else:
        every = int(pattern or 0)
        windows = [every > 0 and block % every < every - 1 for block in range(blocks)]
    if header.architecture == "gemma3" and not header.own.get("attention.sliding_window"):
        windows = [False] * blocks
    return {"layer_types": ["sliding_attention" if window else "full_attention" for window in windows]}


def _rotary(header: Header, config: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    longest = header.own.get("context_length")
    context = longest if isinstance(longest, int) else int(getattr(config, "max_position_embeddings", 2048))
    found = rope_parameters(header, head_dim_of(header, config, changes), context)
    if header.architecture == "gemma3":
        near = header.own.get("rope.freq_base_swa", 10_000.0)
        sliding = {"rope_type": "default", "rope_theta": near}
        return {"rope_parameters": {"full_attention": found, "sliding_attention": sliding}}
    swa = header.own.get("rope.freq_base_swa", found["rope_theta"])
    require(swa == found["rope_theta"], "setting", f"{header.name} turns near positions by another base")
    original = found.get("original_max_position_embeddings")
    if original and _has(config, "original_max_position_embeddings"):
        return {"rope_parameters": found, "original_max_position_embeddings": original}
    return {"rope_parameters": found}
