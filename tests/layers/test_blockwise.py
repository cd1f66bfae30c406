"""What is stored is bitsandbytes' own data, and decodes to what the library says."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from explorer.layers import blockwise

FOUR = [("nf4", False), ("nf4", True), ("fp4", False), ("fp4", True)]


def weight_of(rows: int = 17, columns: int = 128) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(3)).bfloat16()


@pytest.mark.parametrize("format, double", FOUR)
def test_four_bits_decode_as_the_library_decodes(format: str, double: bool) -> None:
    functional, weight = blockwise.library().functional, weight_of(600)  # more absmaxes than one nested block has
    packed, state = functional.quantize_4bit(weight, blocksize=64, quant_type=format, compress_statistics=double)
    stored = blockwise.quantize(weight, format, double)
    assert torch.equal(stored["packed"].view(-1), packed.view(-1))
    decoded = blockwise.dequantize(stored["packed"], blockwise.scales(stored), format, 128, weight.dtype)
    assert torch.equal(decoded, functional.dequantize_4bit(packed, state))


def test_int8_is_within_half_a_step_of_each_row() -> None:
    weight = weight_of().float()
    stored = blockwise.quantize(weight, "int8")
    decoded = blockwise.dequantize(stored["packed"], blockwise.scales(stored), "int8", 128, torch.float32)
    half = weight.to(torch.float16).float()
    assert torch.equal(stored["absmax"][:, 0], half.abs().amax(1))
    assert ((decoded - half).abs() <= 0.501 * stored["absmax"] / 127).all()


@pytest.mark.parametrize("format, double", [*FOUR, ("int8", False)])
@pytest.mark.parametrize("rows, columns", [(17, 128), (5, 100), (300, 65), (1, 1)])
def test_shapes_are_known_without_the_library(format: str, double: bool, rows: int, columns: int) -> None:
    stored = blockwise.quantize(weight_of(rows, columns), format, double)
    assert {k: (tuple(t.shape), t.dtype) for k, t in stored.items()} == blockwise.shapes(rows, columns, format, double)


@pytest.mark.parametrize("format, double", FOUR)
def test_scales_of_some_rows_are_those_of_all(format: str, double: bool) -> None:
    stored, index = blockwise.quantize(weight_of(600, 128), format, double), torch.tensor([599, 0, 300, 300])
    assert torch.equal(blockwise.scales(stored, index), blockwise.scales(stored)[index])


@pytest.mark.parametrize("format, double", FOUR)
def test_what_a_row_is_filled_up_with_changes_nothing(format: str, double: bool) -> None:
    weight = weight_of(9, 100)
    stored = blockwise.quantize(weight, format, double)
    whole = blockwise.dequantize(stored["packed"], blockwise.scales(stored), format, 128, torch.float32)
    assert (whole[:, 100:] == 0).all() and (whole[:, :100] != 0).float().mean() > 0.5


def test_the_library_comes_late_and_says_nothing() -> None:
    """It takes seconds to import, and warns of what is by design, so only a model that needs it may pay for it."""
    script = """
import sys, torch
from explorer.layers import blockwise, choice
from explorer.layers.storage import Spec, empty, encode, stored_bytes
weight = torch.ones(8, 64).bfloat16()
choice.build(encode(weight, Spec(bits=4)))
empty((8, 64), Spec(format="nf4", double=True), torch.bfloat16), stored_bytes((8, 64), Spec(format="int8"), 2)
assert "bitsandbytes" not in sys.modules
for format in blockwise.BITS:
    choice.build(encode(weight, Spec(format=format)))(weight)
assert "bitsandbytes" in sys.modules
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
