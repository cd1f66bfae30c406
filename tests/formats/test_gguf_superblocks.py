"""Codes and ranges of every type as bytes, decoded by the gguf package: not one bit apart."""

import gguf
import pytest
import torch

from explorer.formats.gguf_superblocks import packed
from explorer.methods.superblocks import KINDS, Ranges, nearest, search

ROWS, COLUMNS = 6, 768


def decoded(codes: torch.Tensor, ranges: Ranges, name: str) -> torch.Tensor:
    data = packed(codes, ranges, name)
    block, span = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    assert data.shape == (ROWS, COLUMNS // block * span)
    return torch.from_numpy(gguf.dequantize(data, gguf.GGMLQuantizationType[name]))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_bytes_are_decoded_to_what_they_stand_for(name: str, seed: int) -> None:
    """Any codes and any multiples that the type holds, whatever a search would choose."""
    kind, noise = KINDS[name], torch.Generator().manual_seed(seed)
    blocks, groups = COLUMNS // kind.span, COLUMNS // kind.group

    def any_of(low: int, high: int, count: int) -> torch.Tensor:
        return torch.randint(low, high + 1, (ROWS, count), generator=noise)

    ones = torch.ones(ROWS, groups, dtype=torch.int16)
    scales = ones if kind.least is None else any_of(kind.least, kind.most, groups).to(torch.int16)
    low = lows = None
    if kind.zero is None:
        low = torch.rand(ROWS, blocks, generator=noise).half()
        lows = ones if kind.least is None else any_of(0, kind.most, groups).to(torch.int16)
    scale = torch.randn(ROWS, blocks, generator=noise).half()
    ranges = Ranges(kind=kind, scale=scale, scales=scales, low=low, lows=lows)
    codes = any_of(0, kind.top, COLUMNS).to(torch.uint8)
    assert torch.equal(decoded(codes, ranges, name), ranges.decode(codes))


@pytest.mark.parametrize("name", KINDS)
def test_a_weight_comes_back_as_near_as_its_codes_are(name: str) -> None:
    kind = KINDS[name]
    weight = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(7))
    ranges = search(weight, kind)
    codes = nearest(weight, ranges)
    back = decoded(codes, ranges, name)
    assert torch.equal(back, ranges.decode(codes))
    assert float((back - weight).norm() / weight.norm()) < 1.3 / kind.top
