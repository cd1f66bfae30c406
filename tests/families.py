"""Tiny random models of every causal type that the installed transformers knows, built from their config classes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

WIDTH, LAYERS, WORDS, PLACES = 64, 4, 320, 640
LARGEST = 12_000_000  # weights of a tiny model

SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "embedding_size", "embedding_dim", "emb_dim"), WIDTH),
    **dict.fromkeys(("word_embed_proj_dim", "attention_hidden_size", "input_embedding_size", "lru_width"), WIDTH),
    **dict.fromkeys(("output_embedding_size", "out_hidden_size", "hidden_size_global", "backbone_hidden_size"), WIDTH),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_blocks"), LAYERS),
    **dict.fromkeys(("encoder_layers", "num_encoder_layers", "num_decoder_layers", "conf_num_hidden_layers"), LAYERS),
    **dict.fromkeys(("depth", "num_global_layers", "num_layers_per_stack"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "num_encoder_attention_heads", "num_decoder_attention_heads"), 4),
    **dict.fromkeys(("conf_num_attention_heads", "swa_num_attention_heads", "num_query_groups", "index_n_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads", "kv_n_heads"), 2),
    **dict.fromkeys(("head_dim", "swa_head_dim", "dim_head", "d_head", "attention_head_size", "index_head_dim"), 16),
    **dict.fromkeys(("kv_channels", "global_head_dim", "linear_key_head_dim", "linear_value_head_dim"), 16),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "linear_num_heads"), 4),
    **dict.fromkeys(("linear_head_dim", "mamba_head_dim", "mamba_headdim", "mamba_d_head", "d_rel"), 16),
    **dict.fromkeys(("intermediate_size", "decoder_ffn_dim", "encoder_ffn_dim", "ffn_dim", "ffn_hidden_size"), 96),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "dim_ff", "dff", "d_inner"), 96),
    **dict.fromkeys(("moe_shared_expert_intermediate_size", "shared_intermediate_size", "feed_forward_size"), 96),
    **dict.fromkeys(("shared_experts_intermediate_size", "expert_ffn_hidden_size", "intermediate_size_mlp"), 96),
    **dict.fromkeys(("dense_intermediate_size", "n_inner", "mlp_dim"), 96),
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k"), 2),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group", "n_shared_experts", "num_shared_experts"), 1),
    **dict.fromkeys(("moe_num_shared_experts", "num_dense_layers", "first_k_dense_replace", "zero_expert_num"), 1),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 8),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size", "time_step_rank", "mamba_dt_rank"), 16),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size", "block_size", "index_block_size"), 16),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "v_head_dim", "o_lora_rank"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "rotary_dim"), 8),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "decoder_vocab_size", "unpadded_vocab_size"), WORDS),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length"), PLACES),
    **dict.fromkeys(("max_target_positions", "max_source_positions", "model_max_length", "rel_extent"), PLACES),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "attention_window_size", "local_attention"), 128),
    **dict.fromkeys(("attention_chunk_size", "window_size"), 128),
    **dict.fromkeys(("hidden_size_per_layer_input", "laurel_rank", "gated_norm_rank", "adapter_rank"), 16),
    **dict.fromkeys(("router_hidden_size", "loop_gate_rank", "hc_lowrank", "ple_embed_dim"), 16),
    **dict.fromkeys(("patch_size", "temporal_patch_size", "spatial_merge_size"), 2),
    **dict.fromkeys(("image_size", "num_position_embeddings"), 16),
    **dict.fromkeys(("index_topk", "index_topk_blocks"), 64),
    **dict.fromkeys(("pad_token_id",), 0),
    **dict.fromkeys(("bos_token_id",), 1),
    **dict.fromkeys(("eos_token_id", "decoder_start_token_id", "forced_eos_token_id"), 2),
    "num_nextn_predict_layers": 0,
    "ngram_vocab_size_base": 512,
    "split_ngram_parts": 2,
    "type_vocab_size": 2,
    "qk_head_dim": 24,
    "max_window_layers": LAYERS,
    "num_kv_shared_layers": 0,
}
"""The config's words for sizes, and what a tiny model has of each."""

OWN: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]},
        },
    },
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 1e4}, "ffn_config": {"ffn_hidden_size": 96}},
    "dots3_note_text": {"num_key_value_heads": 4},
    "zamba": {
        "num_key_value_heads": 4,
        "attention_head_dim": 32,
        "attention_hidden_size": 128,
        "num_hidden_layers": 6,
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid"] * 2,
        "n_mamba_heads": 2,
    },
    "longcat_flash": {"head_dim": 8},
    "zamba2": {
        "attention_hidden_size": 128,
        "num_key_value_heads": 4,
        "attention_head_dim": 32,
        "num_hidden_layers": 6,
        "mamba_headdim": 16,
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid"] * 2,
        "n_mamba_heads": 8,
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 64,
        "indexer_compress_ratio": 4,
    },
    "falcon_h1": {"mamba_d_ssm": 128},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "mamba2": {"num_heads": 8, "head_dim": 16, "n_groups": 2},
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local", "lsh", "local", "lsh"],
        "axial_pos_shape": [16, 40],
        "axial_pos_embds_dim": [32, 32],
    },
    "roc_bert": {
        "pronunciation_vocab_size": 20,
        "shape_vocab_size": 20,
        "pronunciation_embed_dim": 16,
        "shape_embed_dim": 16,
    },
    "zaya": {"num_experts_per_tok": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
}
"""What single types ask for beyond it."""


def types() -> list[str]:
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def config_of(kind: str, **changed: Any) -> Any:
    """A small config of a type."""
    return _small(CONFIG_MAPPING[kind], OWN.get(kind, {}) | changed)


def _small(config: Any, own: Mapping[str, Any]) -> Any:
    usual = config()
    names, parts = set(usual.to_dict()), getattr(config, "sub_configs", {})
    given = {name: value for name, value in SMALL.items() if name in names}
    if "qk_rope_head_dim" in given:
        given.pop("head_dim", None)  # latent attention works it out, and has as many keys as queries
        given["num_key_value_heads"] = given["num_attention_heads"]
    for part in parts:
        kind = type(getattr(usual, part, None))
        if getattr(kind, "model_type", ""):
            given[part] = _small(kind, OWN.get(kind.model_type, {}) | own.get(part, {}))
    return config(**given | {name: value for name, value in own.items() if name not in parts})


def model_of(kind: str, seed: int = 0, dtype: torch.dtype = torch.bfloat16, **changed: Any) -> nn.Module:
    """A random model of a type whose weights are not all alike."""
    config = config_of(kind, **changed)
    with torch.device("meta"):
        count = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if count > LARGEST:
        raise ValueError(f"{count:,} weights are not tiny")
    torch.manual_seed(seed)
    model: nn.Module = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval()
