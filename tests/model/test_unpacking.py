"""What bitsandbytes stored is decoded as bitsandbytes decodes it; a file with wrong sizes is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from explorer.layers.blockwise import library
from explorer.model import opening, quantized, unpacking
from tests.model.test_opening import change, configure, rejected
from tests.model.test_quantized import UP, _plain_and_exported

FORMATS = [("nf4", False), ("nf4", True), ("fp4", False), ("int8", False)]


def quantize(folder: Path, format: str, double: bool) -> dict[str, Tensor]:
    """Matrices of a folder as the library's own layers save them; what it decodes them to."""
    functional, exact = library().functional, {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if "proj" not in name:
            continue
        if format == "int8":
            codes, scale, _ = functional.int8_vectorwise_quant(weight.half())
            exact[name] = functional.int8_vectorwise_dequant(codes, scale).bfloat16()
            more = {name.replace(".weight", ".SCB"): scale, name.replace(".weight", ".weight_format"): torch.tensor(0)}
            change(folder, **{name: codes}, **{k: t.to(torch.uint8) if t.dim() == 0 else t for k, t in more.items()})
        else:
            codes, state = functional.quantize_4bit(weight, quant_type=format, compress_statistics=double)
            exact[name] = functional.dequantize_4bit(codes, state)
            change(folder, **{name: codes}, **{f"{name}.{k}": t for k, t in state.as_dict(packed=True).items()})
    four = {"load_in_4bit": True, "bnb_4bit_quant_type": format, "bnb_4bit_use_double_quant": double}
    how = {"load_in_8bit": True} if format == "int8" else four
    configure(folder, quantization_config={"quant_method": "bitsandbytes"} | how)
    return exact


@pytest.mark.parametrize("format, double", FORMATS)
def test_it_opens_as_its_decoded_values(copy: Path, tmp_path: Path, format: str, double: bool) -> None:
    exact = quantize(copy, format, double)
    configure(copy, "generation_config.json", eos_token_id=[1, 7])
    loaded = opening.load(str(copy))
    for name, weight in exact.items():
        found = loaded.model.state_dict()[name]
        assert (found - weight).abs().max() <= 2**-8 * weight.abs().max()  # the last bit of a bfloat16
        assert (found == weight).float().mean() > 0.99
    assert loaded.note == quantized.note("bitsandbytes")
    assert loaded.model.generation_config.eos_token_id == [1, 7]  # type: ignore[union-attr, operator]
    _plain_and_exported(loaded, tmp_path / "out")


WRONG: dict[str, dict[str, Any]] = {
    "too large": {"shape": [10**6, 10**6]},
    "too small": {"shape": [8, 8]},
    "no shape": {"shape": None},
    "negative": {"shape": [-128, -64]},
    "blocks of nothing": {"blocksize": 0},
    "large blocks": {"blocksize": 2**40},
    "blocks of text": {"blocksize": "64"},
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_sizes_are_refused(copy: Path, what: str) -> None:
    quantize(copy, "nf4", False)
    name = UP + unpacking.STATE + "nf4"
    state = json.loads(bytes(load_file(copy / "model.safetensors")[name].tolist())) | WRONG[what]
    change(copy, **{name: torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)})
    rejected(copy)


@pytest.mark.parametrize("part", unpacking.PARTS[:2])
@pytest.mark.parametrize("kept", [None, 1])
def test_scales_that_are_missing_or_too_few_are_refused(copy: Path, part: str, kept: int | None) -> None:
    quantize(copy, "nf4", False)
    tensor = load_file(copy / "model.safetensors")[UP + part]
    change(copy, **{UP + part: None if kept is None else tensor[:kept].clone()})
    rejected(copy)


def test_an_order_of_one_kind_of_gpu_is_refused(copy: Path) -> None:
    quantize(copy, "int8", False)
    change(copy, **{UP.replace(".weight", ".weight_format"): torch.tensor(1, dtype=torch.uint8)})
    assert "GPU" in rejected(copy)
