"""What is quantized already opens as its decoded values, or is refused by its kind and with the original's name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GptOssConfig, GptOssForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from explorer.layers.targets import targets
from explorer.measure import size
from explorer.model import exporting, loaders, opening, quantized
from explorer.model.plan import NOTHING
from explorer.model.preflight import ModelRejected, check_folder
from explorer.values.recipe import Recipe
from tests.model.test_opening import change, configure, rejected

UP = "model.layers.0.mlp.up_proj.weight"


def fp8(folder: Path, block: tuple[int, int] | None, config: bool = True) -> dict[str, Tensor]:
    """Quantize a folder's matrices in blocks, or each as a whole; the values that they stand for, by name."""
    exact = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if "proj" not in name:
            continue
        rows, columns = weight.shape
        high, wide = block or (rows, columns)
        parts = weight.float().view(rows // high, high, columns // wide, wide)
        scale = parts.abs().amax((1, 3)) / 448
        codes = (parts / scale[:, None, :, None]).view(rows, columns).to(torch.float8_e4m3fn)
        exact[name] = (codes.float() * scale.repeat_interleave(high, 0).repeat_interleave(wide, 1)).bfloat16()
        scales = scale if block else scale.reshape(())
        more = {name.replace(".weight", ".activation_scale"): torch.ones(())} if block is None else {}
        change(folder, **{name: codes, f"{name}_scale_inv": scales}, **more)
    if config:
        scheme = {"activation_scheme": "dynamic" if block else "static", "weight_block_size": block and list(block)}
        configure(folder, quantization_config={"quant_method": "fp8"} | scheme)
    return exact


@pytest.mark.parametrize("block", [(32, 32), None], ids=["blocks", "tensor"])
def test_fp8_opens_as_its_decoded_values(copy: Path, tmp_path: Path, block: tuple[int, int] | None) -> None:
    exact = fp8(copy, block)
    loaded = opening.load(str(copy))
    state = loaded.model.state_dict()
    assert exact and all(torch.equal(state[name], weight) for name, weight in exact.items())
    assert loaded.note == quantized.note("fp8")
    _plain_and_exported(loaded, tmp_path / "out")


def test_fp8_experts_are_decoded_before_they_are_put_together(folders: dict[str, Path], tmp_path: Path) -> None:
    config = Qwen3MoeConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=64,
        moe_intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts=2,
        num_experts_per_tok=1,
    )
    folder = tmp_path / "moe"
    Qwen3MoeForCausalLM(config).bfloat16().save_pretrained(folder)
    for file in folders["llama"].glob("tokenizer*"):
        (folder / file.name).write_bytes(file.read_bytes())
    exact = fp8(folder, (32, 32))
    state = opening.load(str(folder)).model.state_dict()
    layer, parts = "model.layers.0.mlp.experts", ("gate", "up", "down")
    for expert in (0, 1):
        gate, up, down = (exact[f"{layer}.{expert}.{part}_proj.weight"] for part in parts)
        assert torch.equal(state[f"{layer}.gate_up_proj.{expert}.weight"], torch.cat([gate, up]))
        assert torch.equal(state[f"{layer}.down_proj.{expert}.weight"], down)


def mxfp4(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Random codes and scales of (experts, rows, columns), and the values that they stand for (experts, columns,
    rows)."""
    experts, rows, columns = shape
    blocks = torch.randint(0, 256, (experts, rows, columns // 32, 16), dtype=torch.uint8)
    scales = torch.randint(118, 124, (experts, rows, columns // 32), dtype=torch.uint8)
    book = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    book = torch.cat([book, -book])
    codes = torch.stack([blocks & 15, blocks >> 4], dim=-1).view(experts, rows, columns // 32, 32)
    values = book[codes.int()] * torch.exp2(scales.float() - 127)[..., None]
    return blocks, scales, values.view(shape).transpose(1, 2).bfloat16()


def test_mxfp4_is_decoded_as_gpt_oss_ships_it(folders: dict[str, Path], tmp_path: Path) -> None:
    config = GptOssConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_local_experts=2,
        num_experts_per_tok=1,
        max_position_embeddings=512,
        layer_types=["full_attention"],
    )
    folder = tmp_path / "oss"
    GptOssForCausalLM(config).bfloat16().save_pretrained(folder)
    tensors, exact = load_file(folder / "model.safetensors"), {}
    for part, rows in (("gate_up_proj", 128), ("down_proj", 64)):
        name = f"model.layers.0.mlp.experts.{part}"
        blocks, scales, exact[name] = mxfp4((2, rows, 64))
        del tensors[name]
        tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    configure(folder, quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})
    assert quantized.decodable(folder, check_folder(folder, quantized=True)) == "mxfp4"
    model, info = loaders.decoded_model_of(folder, dtype=torch.bfloat16, attn_implementation="eager")
    assert not any(info.values()) and not hasattr(model.config, "quantization_config")
    assert all(torch.equal(model.state_dict()[name], values) for name, values in exact.items())


GROUPS = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
PACKED = {"quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed"}
PACKED |= {"config_groups": {"group_0": {"targets": ["Linear"], "weights": GROUPS}}, "ignore": ["lm_head"]}


def test_compressed_tensors_open_where_their_package_is(copy: Path, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors")
    exact = {}
    for name, weight in load_file(copy / "model.safetensors").items():
        if "proj" not in name:
            continue
        rows, columns = weight.shape
        parts = weight.float().view(rows, columns // 32, 32)
        scale = (parts.abs().amax(-1) / 7).bfloat16()
        codes = (parts / scale.float()[..., None]).round().clamp(-8, 7)
        exact[name] = (codes * scale.float()[..., None]).view(rows, columns).bfloat16()
        nibbles = (codes.view(rows, columns // 8, 8) + 8).long() << (4 * torch.arange(8))
        packed, layer = nibbles.sum(-1).to(torch.int32), name.removesuffix(".weight")
        more = {"weight_packed": packed, "weight_scale": scale, "weight_shape": torch.tensor([rows, columns])}
        change(copy, **{name: None}, **{f"{layer}.{part}": tensor for part, tensor in more.items()})
    configure(copy, quantization_config=PACKED)
    loaded = opening.load(str(copy))
    assert all(torch.equal(loaded.model.state_dict()[name], weight) for name, weight in exact.items())
    _plain_and_exported(loaded, tmp_path / "out")


def test_compressed_tensors_name_their_package_where_it_is_not(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized, "find_spec", lambda _: None)
    configure(copy, quantization_config=PACKED)
    assert "opens with `pip install compressed-tensors`; or open the original." in rejected(copy)


def _plain_and_exported(loaded: opening.Loaded, folder: Path) -> None:
    """Nothing of the quantizer is left: sizes are those of bfloat16, and an export is a plain model."""
    model: Any = loaded.model
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16} and targets(model)
    assert exporting.write(model, (Recipe(), NOTHING, "x"), loaded.tokenizer, {}, folder) == size.stored_bytes(model)
    assert "quantization" not in (folder / "config.json").read_text()
    again = exporting.read(folder)[0]
    ids = torch.arange(2, 20)[None]
    with torch.inference_mode():
        assert torch.equal(again(input_ids=ids).logits, model(input_ids=ids).logits)
    assert model.state_dict().keys() == opening.structure(folder).state_dict().keys()


SENTENCES = {
    "gptq": "GPTQ",
    "awq": "AWQ",
    "aqlm": "AQLM",
    "hqq": "HQQ",
    "torchao": "torchao",
    "bitnet": "BitNet",
    "modelopt": "ModelOpt",
    "nvfp4": "NVFP4",
    "quanto": "Quanto",
}


@pytest.mark.parametrize("method", SENTENCES)
def test_what_cannot_be_decoded_is_refused_by_its_kind(copy: Path, method: str) -> None:
    configure(copy, quantization_config={"quant_method": method, "bits": 4, "group_size": 128})
    assert rejected(copy) == (
        f"This copy is already quantized ({SENTENCES[method]}) and cannot be decoded here; open the original."
    )


@pytest.mark.parametrize("key", ["quantization_config", "quantization"])
def test_mlx_is_known_by_its_config(copy: Path, key: str) -> None:
    configure(copy, **{key: {"group_size": 64, "bits": 4}})
    assert "(MLX)" in rejected(copy)


@pytest.mark.parametrize("config", [{}, {"quant_method": "x\ny" * 30}, {"quant_method": 7}, "fp8", [1]])
def test_a_config_that_names_nothing_is_refused(copy: Path, config: Any) -> None:
    configure(copy, quantization_config=config)
    assert "its config does not say how" in rejected(copy)


ODD: dict[str, tuple[str, ...]] = {
    "MLX": ("q_proj.scales", "q_proj.biases"),
    "GPTQ": ("q_proj.qweight", "q_proj.qzeros", "q_proj.scales", "q_proj.g_idx"),
    "AWQ": ("q_proj.qweight", "q_proj.qzeros", "q_proj.scales"),
    "compressed-tensors": ("q_proj.weight_packed", "q_proj.weight_shape", "q_proj.weight_scale"),
    "bitsandbytes": ("q_proj.weight.absmax", "q_proj.weight.quant_map"),
    "MXFP4": ("experts.gate_up_proj_blocks", "experts.gate_up_proj_scales"),
}


@pytest.mark.parametrize("kind", ODD)
def test_tensors_say_the_kind_where_no_config_does(copy: Path, kind: str) -> None:
    change(copy, **{f"model.layers.0.self_attn.{name}": torch.ones(4) * i for i, name in enumerate(ODD[kind])})
    assert f"({kind})" in rejected(copy)


def test_an_old_gptq_is_known_by_the_file_beside_it(copy: Path) -> None:
    (copy / "quantize_config.json").write_text('{"bits": 4}')
    assert "(GPTQ)" in rejected(copy)


def test_fp8_with_scales_and_no_config_is_refused(copy: Path) -> None:
    fp8(copy, (32, 32), config=False)
    assert "(FP8)" in rejected(copy)


def test_fp8_without_scales_holds_its_own_values(copy: Path) -> None:
    weight = load_file(copy / "model.safetensors")[UP].to(torch.float8_e4m3fn)
    change(copy, **{UP: weight})
    loaded = opening.load(str(copy))
    assert torch.equal(loaded.model.state_dict()[UP], weight.bfloat16()) and "float8 (E4M3)" in loaded.note


CARDS = {
    "---\nlicense: mit\nbase_model: owner/name-1.5\n---\n": "owner/name-1.5",
    "---\nbase_model:\n- owner/name\n- other/name\n---\n": "owner/name",
    '---\r\nbase_model: "owner/name"\r\n---\r\n': "owner/name",
    "---\nlicense: mit\n---\nbase_model: owner/name\n": "",
    "base_model: owner/name": "",
    "---\nbase_model: <script>\n---\n": "",
    "": "",
}


@pytest.mark.parametrize("card", CARDS, ids=list(map(str, range(len(CARDS)))))
def test_the_original_is_named_where_the_card_names_it(copy: Path, card: str) -> None:
    configure(copy, quantization_config={"quant_method": "gptq"})
    (copy / "README.md").write_text(card, newline="")
    name = f"the original, {CARDS[card]}" if CARDS[card] else "the original"
    assert rejected(copy).endswith(f"; open {name}.")


def test_a_card_is_not_needed(copy: Path) -> None:
    assert quantized.base_model(copy) == ""
    (copy / "README.md").write_bytes(b"\xff\xfe---\n" * 10)
    assert quantized.base_model(copy) == ""


def test_who_does_not_ask_for_it_gets_no_quantized_folder(copy: Path) -> None:
    configure(copy, quantization_config={"quant_method": "fp8"})
    with pytest.raises(ModelRejected, match="already quantized"):
        check_folder(copy)
    assert json.loads((copy / "config.json").read_text())["quantization_config"]
