"""A Hugging Face config.json → Architecture. Only numbers and words are read: no weights, no program that the file
names, no allocation. Sizes have bounds, so that hostile numbers end as one plain sentence (ValueError)."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from explorer.takes.architecture import Architecture, QueryKeyNorm

LONGEST = 2**20  # characters of a config.json; the largest published are about 100 kB
DEEPEST = 512  # layers; the published maximum is 126
Names = tuple[str, ...]
LAYERS: Names = ("num_hidden_layers", "n_layer", "num_layers")
HIDDEN: Names = ("hidden_size", "n_embd", "n_embed", "d_model")
HEADS: Names = ("num_attention_heads", "n_head", "num_heads")
CONTEXT: Names = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length")


class _Config:
    """Bounded look-ups in one JSON object; every refusal is a ValueError that names the key."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def size(self, names: Names, high: int, default: int | None = None, low: int = 1) -> int:
        """The first of the names that is given, as a whole number from `low` to `high`."""
        for name in names:
            value = self.values.get(name)
            if value is None:
                continue
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"config.json must give {name} as a whole number from {low} to {high:,}.")
            return value
        if default is None:
            raise ValueError(f"config.json does not give {names[0]}.")
        return default

    def flag(self, name: str, default: bool) -> bool:
        value = self.values.get(name)
        if value is None:
            return default
        if type(value) is not bool:
            raise ValueError(f"config.json must give {name} as true or false.")
        return value


def architecture_of_config(values: object) -> Architecture:
    """Dimensions of the decoder that a config.json describes; of a model with pictures, its text part.

    ValueError, one plain sentence: what is missing, out of bounds, or of a kind whose weights are not known here.
    """
    if not isinstance(values, Mapping):
        raise ValueError("config.json must be one JSON object.")
    inner = values.get("text_config")
    if inner is not None:
        if not isinstance(inner, Mapping) or inner.get("text_config") is not None:
            raise ValueError("config.json must give text_config as one JSON object without another inside.")
        values = {"model_type": values.get("model_type")} | dict(inner)
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in KINDS:
        shown = kind[:40] if isinstance(kind, str) and kind.isprintable() else "not given"
        raise ValueError(f"The weights of this kind of model ({shown}) are not known here; known: {', '.join(KINDS)}.")
    try:
        return KINDS[kind](_Config(values))
    except ValueError as problem:
        text = str(problem)
        raise ValueError(text if text.startswith("config.json") else f"config.json does not fit: {text}") from None


def read_config(text: str) -> Architecture:
    """`architecture_of_config` of a JSON text of at most 1 MiB."""
    if len(text) > LONGEST:
        raise ValueError("This config.json is too long.")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):  # also whole numbers of thousands of digits
        raise ValueError("This is not JSON.") from None
    return architecture_of_config(values)


def open_config(path: Path) -> Architecture:
    """`read_config` of a file, or of the config.json in a folder."""
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"There is no {file.name} that can be read here.")
    if file.stat().st_size > LONGEST:
        raise ValueError(f"{file.name} is too long for a config.json.")
    try:
        return read_config(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ValueError(f"{file.name} is not a text file.") from None


def _dimensions(config: _Config, *, head_size: int | None = None, kv: bool = True) -> dict[str, Any]:
    """What every kind gives: layers, widths, heads, words, context; a missing kv count means one for each head."""
    hidden, heads = config.size(HIDDEN, 65_536), config.size(HEADS, 1024)
    size = config.size(("head_dim",), 4096, head_size or 0, low=1) if kv or head_size else 0
    if not size:
        if hidden % heads:
            raise ValueError("the attention heads must divide the hidden width evenly.")
        size = hidden // heads
    return {
        "layers": config.size(LAYERS, DEEPEST),
        "hidden": hidden,
        "heads": heads,
        "kv_heads": config.size(("num_key_value_heads",), 1024, heads) if kv else heads,
        "head_size": size,
        "vocabulary": config.size(("vocab_size",), 2_000_000),
        "context": config.size(CONTEXT, 100_000_000, 2048),
    }


def _windows(config: _Config, layers: int, full_every: int = 0) -> dict[str, Any]:
    """Window and number of windowed layers: listed layer by layer, or all but every `full_every`-th (0: all)."""
    window = config.size(("sliding_window",), 100_000_000, 0)
    if not window or not config.flag("use_sliding_window", True):
        return {}
    listed = config.values.get("layer_types")
    if isinstance(listed, list) and len(listed) == layers:
        windowed = sum(each == "sliding_attention" for each in listed)
    else:
        windowed = layers - layers // full_every if full_every else layers
    return {"window": window, "windowed": windowed}


def _llama(
    config: _Config,
    *,
    tied: bool = False,
    qkv_bias: bool | None = None,
    query_key_norm: QueryKeyNorm = "none",
    norms: int = 2,
    head_size: int | None = None,
    full_every: int = 0,
    intermediate: Names = ("intermediate_size",),
    experts: Names = (),
    default_experts: int = 0,
    **others: Any,
) -> Architecture:
    """Gated MLP, RMSNorm, rotary positions: Llama and what descends from it."""
    found = _dimensions(config, head_size=head_size)
    bias = config.flag("attention_bias", False)
    many = config.size(experts, 4096, default_experts) if experts else 0
    return Architecture(
        **found,
        intermediate=config.size(intermediate, 1_048_576),
        tied=config.flag("tie_word_embeddings", tied),
        qkv_bias=bias if qkv_bias is None else qkv_bias,
        out_bias=bias and qkv_bias is None,
        mlp_bias=config.flag("mlp_bias", False),
        query_key_norm=query_key_norm,
        norms=norms,
        experts=many,
        active_experts=config.size(("num_experts_per_tok",), 4096, min(2, many)) if many else 0,
        **_windows(config, found["layers"], full_every),
        **others,
    )


def _qwen(config: _Config, **others: Any) -> Architecture:
    """Qwen names a window that its models do not use unless they say so."""
    return _llama(_Config({"use_sliding_window": False} | dict(config.values)), **others)


def _qwen3_moe(config: _Config) -> Architecture:
    if config.values.get("mlp_only_layers") or config.size(("decoder_sparse_step",), 512, 1) != 1:
        raise ValueError("config.json has experts in some layers only, which is not known here.")
    return _qwen(
        config,
        query_key_norm="head",
        intermediate=("moe_intermediate_size",),
        experts=("num_experts", "num_local_experts"),
        default_experts=128,
    )


def _stablelm(config: _Config) -> Architecture:
    if config.flag("qk_layernorm", False):
        raise ValueError("config.json asks for qk_layernorm, which is not known here.")
    norms = 1 if config.flag("use_parallel_residual", False) else 2
    return _llama(config, qkv_bias=config.flag("use_qkv_bias", False), norm="layer", norms=norms)


def _plain(
    config: _Config, *, tied: bool, intermediate: Names = ("n_inner", "intermediate_size"), **others: Any
) -> Architecture:
    """MLP of two matrices, LayerNorm: GPT-2 and its contemporaries. A missing inner width is four times the hidden."""
    found = _dimensions(config, kv=False)
    return Architecture(
        **(found | others),
        intermediate=config.size(intermediate, 1_048_576, 4 * found["hidden"]),
        tied=config.flag("tie_word_embeddings", tied),
        gated=False,
        norm="layer",
    )


def _gpt2(config: _Config) -> Architecture:
    rows = config.size(CONTEXT, 100_000_000, 1024)
    return _plain(config, tied=True, qkv_bias=True, out_bias=True, mlp_bias=True, positions=rows)


def _gpt_neo(config: _Config) -> Architecture:
    rows, layers = config.size(CONTEXT, 100_000_000, 2048), config.size(LAYERS, DEEPEST)
    window: dict[str, Any] = {
        "window": config.size(("window_size",), 100_000_000, 256),
        "windowed": layers // 2,
    }  # every other one
    return _plain(config, tied=True, out_bias=True, mlp_bias=True, positions=rows, **window)


def _opt(config: _Config) -> Architecture:
    hidden, bias = config.size(HIDDEN, 65_536), config.flag("enable_bias", True)
    table = config.size(("word_embed_proj_dim",), 65_536, hidden)
    before = config.flag("do_layer_norm_before", True) and not config.flag("_remove_final_layer_norm", False)
    rows = config.size(CONTEXT, 100_000_000, 2048) + 2  # the table starts with two rows for padding
    return _plain(
        config,
        tied=True,
        intermediate=("ffn_dim",),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bias,
        positions=rows,
        table_width=table if table != hidden else 0,
        final_norm=before,
    )


def _gpt_neox(config: _Config) -> Architecture:
    bias = config.flag("attention_bias", True)
    return _plain(config, tied=False, qkv_bias=bias, out_bias=bias, mlp_bias=True)


def _gptj(config: _Config) -> Architecture:
    return _plain(config, tied=False, mlp_bias=True, head_bias=True, norms=1)


def _phi(config: _Config) -> Architecture:
    if config.flag("qk_layernorm", False):
        raise ValueError("config.json asks for qk_layernorm, which is not known here.")
    groups = config.size(("num_key_value_heads",), 1024, config.size(HEADS, 1024))
    own: dict[str, Any] = {"qkv_bias": True, "out_bias": True, "mlp_bias": True, "head_bias": True}
    return _plain(config, tied=False, norms=1, kv_heads=groups, **own)


def _falcon(config: _Config) -> Architecture:
    heads, bias = config.size(HEADS, 1024), config.flag("bias", False)
    new = config.flag("new_decoder_architecture", False)
    if new:
        groups = config.size(("num_kv_heads", "n_head_kv"), 1024, heads)
        norms = config.size(("num_ln_in_parallel_attn",), 2, 2)
    else:
        groups = 1 if config.flag("multi_query", True) else heads
        norms = 1 if config.flag("parallel_attn", True) else 2
    return _plain(
        config,
        tied=True,
        intermediate=("ffn_hidden_size",),
        kv_heads=groups,
        norms=norms,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bias,
    )


def _bloom(config: _Config) -> Architecture:
    return _plain(config, tied=True, qkv_bias=True, out_bias=True, mlp_bias=True, table_norm=True, intermediate=("_",))


def _starcoder2(config: _Config) -> Architecture:
    bias, layers = config.flag("use_bias", True), config.size(LAYERS, DEEPEST)
    groups = config.size(("num_key_value_heads",), 1024, config.size(HEADS, 1024))
    own: dict[str, Any] = {"qkv_bias": bias, "out_bias": bias, "mlp_bias": bias, "kv_heads": groups} | _windows(
        config, layers
    )
    return _plain(config, tied=True, **own)


KINDS: dict[str, Callable[[_Config], Architecture]] = {
    "llama": _llama,
    "mistral": _llama,
    "mixtral": lambda c: _llama(c, experts=("num_local_experts", "num_experts"), default_experts=8),
    "qwen2": lambda c: _qwen(c, qkv_bias=True),
    "qwen3": lambda c: _qwen(c, query_key_norm="head", head_size=128),
    "qwen3_moe": _qwen3_moe,
    "gemma": lambda c: _llama(c, tied=True, head_size=256),
    "gemma2": lambda c: _llama(c, tied=True, head_size=256, norms=4, full_every=2),
    "gemma3": lambda c: _llama(c, tied=True, head_size=256, norms=4, full_every=6, query_key_norm="head"),
    "gemma3_text": lambda c: _llama(c, tied=True, head_size=256, norms=4, full_every=6, query_key_norm="head"),
    "phi": _phi,
    "phi3": _llama,
    "gpt2": _gpt2,
    "gpt_neo": _gpt_neo,
    "gptj": _gptj,
    "gpt_neox": _gpt_neox,
    "opt": _opt,
    "falcon": _falcon,
    "bloom": _bloom,
    "olmo": lambda c: _llama(c, norm="none"),
    "olmo2": lambda c: _llama(c, query_key_norm="width"),
    "olmoe": lambda c: _llama(c, query_key_norm="width", experts=("num_experts",), default_experts=64),
    "smollm3": lambda c: _llama(c, tied=True),
    "granite": _llama,
    "stablelm": _stablelm,
    "starcoder2": _starcoder2,
}
