"""Files that do not hold what their header promises: nothing opens with random values, whatever the family."""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    Gemma2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3MoeConfig,
)

from explorer.model import conversion, opening
from explorer.model.preflight import ModelRejected
from explorer.model.whole import check_whole

SIZES = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
SIZES |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64}
EXPERTS = {"head_dim": 16, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 768}
FAMILIES: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=False),
    "qwen2": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "gemma2": Gemma2Config(**SIZES, head_dim=16),
    "qwen3moe": Qwen3MoeConfig(**SIZES, **EXPERTS, tie_word_embeddings=False),
}
Tensors = dict[str, np.ndarray]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Write:
    """Writes a .gguf file of these tensors."""

    def write(family: str, tensors: Tensors, *, blocks: int = 1, epsilon: float = 1e-5, base: float = 1e4) -> Path:
        file = tmp_path / f"{family}.gguf"
        writer = gguf.GGUFWriter(file, family)
        writer.add_block_count(blocks)
        writer.add_context_length(64)
        writer.add_embedding_length(32)
        writer.add_feed_forward_length(48)
        writer.add_head_count(2)
        writer.add_head_count_kv(1)
        writer.add_key_length(16)
        writer.add_layer_norm_rms_eps(epsilon)
        writer.add_rope_freq_base(base)
        if "moe" in family:
            writer.add_expert_count(2)
            writer.add_expert_used_count(1)
        writer.add_vocab_size(300)
        writer.add_tokenizer_model("gpt2")
        core = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
        vocabulary = core["vocab"]
        writer.add_token_list(sorted(vocabulary, key=vocabulary.get))
        writer.add_token_types([3, 3] + [1] * 298)
        writer.add_token_scores([0.0] * 300)
        writer.add_token_merges([" ".join(pair) for pair in core["merges"]])
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(1)
        for name, tensor in tensors.items():
            writer.add_tensor(name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return file

    return write


def tensors_of(family: str) -> Tensors:
    """Random tensors under the names that llama.cpp gives them; no output where it is the embedding."""
    config = FAMILIES[family]
    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == family)
    names, found = gguf.get_tensor_name_map(arch, config.num_hidden_layers), {}
    for name, tensor in AutoModelForCausalLM.from_config(config).state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        value = torch.randn(tensor.shape).numpy()
        block = f"blk.{name.split('.')[2]}" if ".layers." in name else ""
        if name.endswith("experts.gate_up_proj"):
            found[f"{block}.ffn_gate_exps.weight"], found[f"{block}.ffn_up_exps.weight"] = np.split(value, 2, 1)
        elif name.endswith("experts.down_proj"):
            found[f"{block}.ffn_down_exps.weight"] = value
        else:
            found[names.get_name(name, try_suffixes=(".weight", ".bias"))] = value
    return found


def refused(file: Path, cache: Path) -> str:
    """Why a file was not opened; nothing of it was kept."""
    with pytest.raises(ModelRejected) as found:
        opening.load(str(file))
    assert not list(cache.rglob("*.safetensors"))
    return str(found.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_that_holds_everything_opens(write: Write, family: str) -> None:
    model, *_ = conversion.decoded(write(family, tensors_of(family)))
    assert model.config.tie_word_embeddings == FAMILIES[family].tie_word_embeddings


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_that_is_left_out_or_misspelt_is_missed(write: Write, cache: Path, family: str) -> None:
    """Of the other families those that a Llama has not."""
    whole = tensors_of(family)
    for name in whole.keys() - (set() if family == "llama" else tensors_of("llama").keys()):
        rest = {other: value for other, value in whole.items() if other != name}
        wrong = name.removesuffix(".weight") if name == "output.weight" else f"{name[:-7]}p{name[-7:]}"
        words = refused(write(family, rest | {wrong: whole[name]}), cache)
        assert name in words or wrong in words
        if name == "output.weight":  # absent, it is the embedding
            assert conversion.decoded(write(family, rest))[0].config.tie_word_embeddings
        else:
            assert name in refused(write(family, rest), cache)


def test_another_number_of_blocks_than_the_file_holds_is_refused(write: Write, cache: Path) -> None:
    one = tensors_of("llama")
    assert "lacks" in refused(write("llama", one, blocks=2), cache)
    two = one | {name.replace("blk.0", "blk.1"): tensor for name, tensor in one.items()}
    assert "unknown" in refused(write("llama", two), cache)


def test_a_table_of_one_tensor_is_refused(write: Write, cache: Path) -> None:
    file = write("llama", tensors_of("llama"))
    raw = bytearray(file.read_bytes())
    raw[8:16] = (1).to_bytes(8, "little")
    file.write_bytes(raw)
    refused(file, cache)


def test_a_tensor_that_the_family_has_no_place_for_is_refused(write: Write, cache: Path) -> None:
    bias = {"blk.0.attn_q.bias": np.ones(32, np.float32)}
    assert "blk.0.attn_q.bias" in refused(write("llama", tensors_of("llama") | bias), cache)
    assert conversion.decoded(write("llama", tensors_of("llama") | {"rope_freqs.weight": np.ones(8, np.float32)}))


@pytest.mark.parametrize("name, shape", [("blk.0.ffn_up.weight", (47, 32)), ("output_norm.weight", (31,))])
def test_a_misshapen_tensor_of_a_gguf_file_is_refused(
    write: Write, cache: Path, name: str, shape: tuple[int, ...]
) -> None:
    assert "misshapen" in refused(write("llama", tensors_of("llama") | {name: np.ones(shape, np.float32)}), cache)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_in_a_gguf_file_that_is_no_number_is_refused(write: Write, cache: Path, value: float) -> None:
    tensors = tensors_of("llama")
    tensors["blk.0.attn_k.weight"][3, 3] = value
    assert "k_proj" in refused(write("llama", tensors), cache)


@pytest.mark.parametrize(
    "value", [{"epsilon": np.nan}, {"epsilon": np.inf}, {"epsilon": -1.0}, {"base": np.nan}, {"base": 0.0}]
)
def test_a_setting_that_cannot_be_is_refused(write: Write, cache: Path, value: dict[str, float]) -> None:
    assert "damaged" in refused(write("llama", tensors_of("llama"), **value), cache)


def test_a_setting_of_a_folder_that_cannot_be_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folders["llama"], tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"rms_norm_eps": {"__float__": "NaN"}}))
    with pytest.raises(ModelRejected, match="rms_norm_eps cannot be nan"):
        opening.load(str(copy))


@pytest.mark.parametrize(
    "value, name, fine", [(-np.inf, "mask", True), (np.nan, "mask", False), (np.inf, "inv_freq", False)]
)
def test_a_mask_may_be_infinite_and_a_frequency_not(value: float, name: str, fine: bool) -> None:
    model = AutoModelForCausalLM.from_config(FAMILIES["llama"])
    model.register_buffer(name, torch.tensor([value]), persistent=False)
    info: dict[str, list[str]] = {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": []}
    with nullcontext() if fine else pytest.raises(ModelRejected, match=name):
        check_whole(model, info)


def test_what_an_earlier_version_kept_is_made_anew(write: Write, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write("llama", tensors_of("llama"))
    with monkeypatch.context() as earlier:
        earlier.setattr(conversion, "VERSION", conversion.VERSION - 1)
        before = opening.load(str(file)).folder
    old = before.with_name(f"gguf-{before.name.rpartition('-')[2]}")
    before.rename(old)
    after = opening.load(str(file)).folder
    assert (after / "model.safetensors").is_file() and after != old and not old.exists()


def test_a_folder_that_another_process_made_meanwhile_stays(write: Write, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"theirs")
    conversion._convert(write("llama", tensors_of("llama")), folder)
    assert (folder / "model.safetensors").read_bytes() == b"theirs" and not list(tmp_path.glob(".kept*"))


def opened_with(model: torch.nn.Module, folders: dict[str, Path], folder: Path) -> None:
    model.save_pretrained(folder)  # type: ignore[operator]
    for file in folders["llama"].glob("tokenizer*"):
        (folder / file.name).write_bytes(file.read_bytes())


def test_a_model_that_fills_gaps_is_no_causal_one(folders: dict[str, Path], tmp_path: Path) -> None:
    size = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    opened_with(BertForMaskedLM(BertConfig(vocab_size=300, initializer_range=0.5, **size)), folders, tmp_path / "bert")
    with pytest.raises(ModelRejected, match="no causal model"):
        opening.load(str(tmp_path / "bert"))


def test_a_config_that_lets_nothing_run_is_refused_at_the_door(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"return_dict": False}))
    with pytest.raises(ModelRejected, match="cannot be run on a text alone"):
        opening.load(str(copy))


def test_a_model_that_overflows_in_float16_is_opened_in_bfloat16(copy: Path) -> None:
    tensors = {name: t.half() for name, t in load_file(copy / "model.safetensors").items()}
    tensors["model.layers.0.mlp.up_proj.weight"].fill_(60_000)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    loaded = opening.load(str(copy))
    assert loaded.model.dtype == torch.bfloat16 and "stored as float16 are used as bfloat16" in loaded.note
    assert "In float16 its predictions are not numbers." in loaded.note
