"""Tiny models of many families written as .gguf files, as llama.cpp's converter writes them, and what a file holds."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    Lfm2Config,
    LlamaConfig,
    MambaConfig,
    NemotronConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    StableLmConfig,
    Starcoder2Config,
)

SIZES: dict[str, Any] = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024}
ENDS: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
OWN = SIZES | ENDS | {"initializer_range": 0.2}
SMALL: dict[str, Any] = {"vocab_size": 300, "hidden_size": 64, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "tie_word_embeddings": False}
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**OWN, rms_norm_eps=3e-5),
    "qwen2": lambda: Qwen2Config(**OWN, tie_word_embeddings=True, rope_parameters=_theta(1e6)),
    "qwen3": lambda: Qwen3Config(**OWN, head_dim=32, rope_parameters=_theta(5e5)),
    "qwen2moe": lambda: Qwen2MoeConfig(**OWN, **EXPERTS, shared_expert_intermediate_size=64),
    "qwen3moe": lambda: Qwen3MoeConfig(**OWN, **EXPERTS, head_dim=32, norm_topk_prob=True),
    "phi3": lambda: Phi3Config(**OWN, rope_parameters=_theta(1e4) | {"partial_rotary_factor": 0.75}),
    "gemma2": lambda: Gemma2Config(**OWN, **GEMMA, attn_logit_softcapping=20.0, final_logit_softcapping=10.0),
    "gemma3": lambda: Gemma3TextConfig(**OWN | {"num_hidden_layers": 6}, **GEMMA, rope_parameters=GEMMA3_ROPE),
    "gpt2": lambda: GPT2Config(**SMALL | ENDS, n_positions=1024, n_inner=96),
    "bloom": lambda: BloomConfig(**SMALL | ENDS),
    "falcon": lambda: FalconConfig(**FALCON),
    "starcoder2": lambda: Starcoder2Config(**OWN, rope_parameters=_theta(1e5), norm_epsilon=2e-5),
    "stablelm": lambda: StableLmConfig(**OWN, rope_parameters=_theta(1e4) | {"partial_rotary_factor": 0.5}),
    "nemotron": lambda: NemotronConfig(**OWN, norm_eps=1e-3, rope_parameters=_theta(1e4)),
    "mamba": lambda: MambaConfig(**SMALL_MAMBA),
    "lfm2": lambda: Lfm2Config(**OWN | {"layer_types": ["conv", "full_attention"]}, block_auto_adjust_ff_dim=False),
}
GEMMA: dict[str, Any] = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 40}
GEMMA3_ROPE = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
SMALL_MAMBA: dict[str, Any] = {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}
SMALL_MAMBA |= {"expand": 2, "conv_kernel": 4, "time_step_rank": 4, "initializer_range": 0.2} | ENDS
INNER = ("intermediate_size", "n_inner", "ffn_hidden_size")
FALCON: dict[str, Any] = {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
FALCON |= {"ffn_hidden_size": 192, "initializer_range": 0.2, "max_position_embeddings": 1024} | ENDS
Forms = dict[str, tuple[Tensor, Callable[[Tensor], Tensor]]]  # gguf's name: tensor in gguf's form, and the way back


def _theta(theta: float) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta}


def tiny(family: str, **more: Any) -> Any:
    """A random model of the family, in float32, each bias and norm of which would be missed."""
    config = CONFIGS[family]()
    config = type(config).from_dict(config.to_dict() | more)
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 and "A_log" not in name and "dt_proj" not in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def says(family: str, config: Any) -> dict[str, Any]:
    """The values that the converter writes for a config, without the family in their names."""
    rope = getattr(config, "rope_parameters", None) or {}
    rope = rope.get("full_attention", rope)
    has, heads = lambda name: getattr(config, name, None), getattr(config, "num_attention_heads", 0)  # noqa: E731
    head_dim = has("head_dim") or config.hidden_size // max(heads, 1)
    found: dict[str, Any] = {
        "block_count": config.num_hidden_layers,
        "context_length": has("max_position_embeddings") or 1024,
        "embedding_length": config.hidden_size,
        "feed_forward_length": has("intermediate_size")
        or has("n_inner")
        or has("ffn_hidden_size")
        or 4 * config.hidden_size,
        "attention.head_count": heads,
        "rope.freq_base": rope.get("rope_theta"),
        "attention.sliding_window": has("sliding_window") if family.startswith("gemma") else None,
    }
    if family not in ("bloom", "gpt2", "mamba"):
        found["attention.head_count_kv"] = 1 if family == "falcon" else config.num_key_value_heads
    if has("head_dim"):
        found |= {"attention.key_length": head_dim, "attention.value_length": head_dim}
    if "partial_rotary_factor" in rope:
        found["rope.dimension_count"] = int(rope["partial_rotary_factor"] * head_dim)
    epsilon = "attention.layer_norm_rms_epsilon" if has("rms_norm_eps") or family in ("mamba", "lfm2") else "eps"
    if epsilon != "eps":
        found[epsilon] = has("rms_norm_eps") or has("layer_norm_epsilon") or has("norm_eps")
    else:
        names = ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")
        found["attention.layer_norm_epsilon"] = next(has(name) for name in names if has(name))
    experts = {"expert_count": "num_experts", "expert_used_count": "num_experts_per_tok"}
    experts |= {"expert_feed_forward_length": "moe_intermediate_size"}
    experts |= {"expert_shared_feed_forward_length": "shared_expert_intermediate_size"}
    softcaps = {name: name for name in ("attn_logit_softcapping", "final_logit_softcapping")}
    found |= {key: has(name) for key, name in (experts | softcaps).items()}
    if family == "stablelm":
        found |= {"use_parallel_residual": config.use_parallel_residual, "rope.freq_base": None}
    if family == "mamba":
        found |= {"attention.head_count": 0, "feed_forward_length": 0, "ssm.inner_size": config.intermediate_size}
        found |= {"ssm.conv_kernel": 4, "ssm.state_size": 8, "ssm.time_step_rank": 4}
    if family == "lfm2":
        kinds = [2 * (kind == "full_attention") for kind in config.layer_types]
        found |= {"attention.head_count_kv": kinds, "shortconv.l_cache": config.conv_L_cache}
    if family == "nemotron":
        found["rope.scaling.type"] = "none"
    return {key: value for key, value in found.items() if value is not None} | scaling(rope, family)


def scaling(rope: Mapping[str, Any], family: str = "llama") -> dict[str, Any]:
    """rope.scaling.* for rope_parameters."""
    kind = rope.get("rope_type", "default")
    if kind not in ("linear", "yarn"):
        return {}
    keys = {"factor": "factor", "original_context_length": "original_max_position_embeddings"}
    keys |= {"yarn_attn_factor": "attention_factor", "yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow"}
    given = {f"rope.scaling.{key}": rope[name] for key, name in keys.items() if name in rope}
    return {"rope.scaling.type": kind} | given


def forms(family: str, model: Any) -> Forms:
    """The tensors of a model as a file holds them."""
    config, found = model.config, Forms()
    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == family)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and (config.tie_word_embeddings):
            continue
        inside = re.search(r"\.(\d+)\.", name)
        block = f"blk.{inside[1]}" if inside else ""
        if name.endswith("experts.gate_up_proj"):
            for half, part in zip(("gate", "up"), tensor.chunk(2, dim=1), strict=True):
                found[f"{block}.ffn_{half}_exps.weight"] = part.contiguous(), _same
            continue
        own = f"{block}.ffn_down_exps.weight" if name.endswith("experts.down_proj") else _named(names, name)
        if own is None:
            raise KeyError(name)
        there, back = _turned(family, config, own, name)
        found[own] = there(tensor).contiguous(), back
    return found


def _named(names: Any, name: str) -> str | None:
    suffix = name.rpartition(".")[2]
    if suffix not in ("weight", "bias"):
        return names.get_name(name)  # type: ignore[no-any-return]
    bare = name.removesuffix(f".{suffix}")
    known = names.get_name(bare) or names.get_name(bare.removeprefix("transformer."))
    return f"{known}.{suffix}" if known else None


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _turned(family: str, config: Any, own: str, name: str) -> tuple[Callable[[Tensor], Tensor], ...]:
    """What the converter does to a tensor, and what undoes it."""
    heads = getattr(config, "num_attention_heads", 1)
    if family == "llama" and (".attn_q." in own or ".attn_k." in own):
        count = heads if ".attn_q." in own else config.num_key_value_heads
        return (
            lambda w: w.reshape(count, 2, len(w) // count // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape),
            lambda w: w.reshape(count, len(w) // count // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape),
        )
    if family in ("gemma2", "gemma3", "nemotron") and own.endswith("norm.weight"):
        return lambda w: w + 1, lambda w: w - 1
    if family == "bloom" and "attn_qkv" in own:
        return (
            lambda w: w.reshape(heads, 3, -1, *w.shape[1:]).swapaxes(0, 1).reshape(w.shape),
            lambda w: w.reshape(3, heads, -1, *w.shape[1:]).swapaxes(0, 1).reshape(w.shape),
        )
    if family == "gpt2" and re.search(r"(c_attn|c_proj|c_fc)\.weight", name):
        return Tensor.t, Tensor.t
    if family in ("mamba", "lfm2") and re.search(r"conv\w*\.weight", own) and "proj" not in own:
        return lambda w: w.squeeze(1), lambda w: w.unsqueeze(1)
    if family == "mamba" and own.endswith("ssm_a"):
        return lambda w: -w.exp(), lambda w: (-w).log()
    if family == "qwen2moe" and "gate_inp_shexp" in own:
        return lambda w: w.squeeze(0), lambda w: w.unsqueeze(0)
    return _same, _same


def rounded(tensor: Tensor, kind: gguf.GGMLQuantizationType) -> tuple[np.ndarray, gguf.GGMLQuantizationType]:
    """As a file keeps it: vectors, and what has no whole blocks, in float32."""
    block = gguf.GGML_QUANT_SIZES[kind][0]
    if tensor.dim() < 2 or tensor.shape[-1] % block or kind == gguf.GGMLQuantizationType.F32:
        return tensor.numpy(), gguf.GGMLQuantizationType.F32
    return gguf.quantize(tensor.numpy(), kind), kind


def write(
    file: Path,
    family: str,
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    *,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    extra: Mapping[str, np.ndarray] = {},
    drop: tuple[str, ...] = (),
    **more: Any,
) -> dict[str, Tensor]:
    """Write a model, and give back the state of a plain model that holds what the file holds, in bfloat16. `more` are
    values by key, with two underscores for a dot; those of the family without its name."""
    writer = gguf.GGUFWriter(file, family)
    own = {key.replace("__", "."): value for key, value in more.items()}
    tokens = {key: own.pop(key) for key in list(own) if key.startswith("tokenizer.")}
    for key, value in (says(family, model.config) | own).items():
        if key not in drop:
            _add(writer, f"{family}.{key}", value)
    _add_tokens(writer, tokenizer, tokens)
    state = {}
    back = {own: name for name in model.state_dict() for own in [_own_name(family, model, name)] if own}
    halves: dict[str, list[Tensor]] = {}
    for name, (tensor, undo) in forms(family, model).items():
        data, used = rounded(tensor, kind)
        writer.add_tensor(name, data, raw_dtype=used)
        value = undo(torch.from_numpy(gguf.dequantize(data, used).reshape(tensor.shape).copy()))
        if name in back:
            state[back[name]] = value.bfloat16()
        else:
            halves.setdefault(re.sub("_(gate|up)_", "_", name), []).append(value.bfloat16())
    for name, both in halves.items():
        block = name.split(".")[1]
        state[f"model.layers.{block}.mlp.experts.gate_up_proj"] = torch.cat(both, dim=1)
    for name, array in extra.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return state


def _own_name(family: str, model: Any, name: str) -> str | None:
    arch = next(arch for arch, known in gguf.MODEL_ARCH_NAMES.items() if known == family)
    if name.endswith("experts.down_proj"):
        return f"blk.{name.split('.')[2]}.ffn_down_exps.weight"
    if name.endswith("experts.gate_up_proj") or (name == "lm_head.weight" and model.config.tie_word_embeddings):
        return None
    return _named(gguf.get_tensor_name_map(arch, model.config.num_hidden_layers), name)


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    (writer.add_array if isinstance(value, list) else kinds[type(value)])(key, value)


def _add_tokens(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerFast, more: Mapping[str, Any]) -> None:
    core = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    usual: dict[str, Any] = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.bos_token_id": 0}
    usual |= {"tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.pre": "gpt-2"}
    for key, value in (usual | dict(more)).items():
        if value is not None:
            _add(writer, key, value)
    writer.add_token_list(sorted(core["vocab"], key=core["vocab"].get))
    writer.add_token_types([3, 3] + [1] * (len(core["vocab"]) - 2))
    writer.add_token_scores([0.0] * len(core["vocab"]))
    writer.add_token_merges([" ".join(pair) for pair in core["merges"]])


def logits(model: Any, positions: int = 600) -> Tensor:
    """Of as many random tokens."""
    ids = torch.randint(2, 300, (1, positions), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return model(ids, use_cache=False).logits  # type: ignore[no-any-return]
