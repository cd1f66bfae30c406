"""Codes to packed bytes and back. A code of b bits is cut into planes of 4, 2 and 1 bits (6 = 4 + 2, 3 = 2 + 1), and
each plane fills whole bytes, so that any width from 1 to 8 is stored exactly and unpacked by shifts alone."""

import numpy as np
import torch
from torch import Tensor


def planes(bits: int) -> list[int]:
    """The widths a code is cut into, high bits first: 8 → [8], 7 → [4, 2, 1], 5 → [4, 1]."""
    return [width for width in (8, 4, 2, 1) if bits & width]


def packed_width(columns: int, bits: int) -> int:
    """Bytes of one packed row of `columns` codes (rows are padded to a multiple of eight codes)."""
    return -(-columns // 8) * bits


def pack(codes: Tensor, bits: int) -> Tensor:
    """(rows, columns) uint8 codes below 2^bits → (rows, packed_width) uint8."""
    rows, columns = codes.shape
    if columns % 8:
        codes = torch.nn.functional.pad(codes, (0, -columns % 8))
    parts, left = [], bits
    for width in planes(bits):
        left -= width
        plane = codes >> left if left else codes
        if width < bits:
            plane = plane & (2**width - 1)
        per_byte = 8 // width
        fields = plane.view(rows, -1, per_byte)  # (rows, bytes, codes in a byte)
        byte = fields[..., 0]
        for i in range(1, per_byte):
            byte = byte | (fields[..., i] << (i * width))
        parts.append(byte)
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0].contiguous()


def unpack(packed: Tensor, bits: int, columns: int) -> Tensor:
    """The inverse of `pack`: (rows, packed_width) uint8 → (rows, columns) uint8 codes."""
    rows, eighths = packed.shape[0], -(-columns // 8)
    codes, at = None, 0
    for width in planes(bits):
        part = packed[:, at : at + eighths * width]
        at += eighths * width
        fields = [(part >> (i * width)) & (2**width - 1) for i in range(8 // width)] if width < 8 else [part]
        plane = torch.stack(fields, dim=-1).view(rows, -1)
        codes = plane if codes is None else (codes << width) | plane
    assert codes is not None
    return codes[:, :columns]


def take(packed: Tensor, bits: int, columns: int, index: Tensor) -> Tensor:
    """Codes at chosen columns of a single packed row, without unpacking the rest: index (…) → (…) uint8."""
    row, eighths = packed.view(-1), -(-columns // 8)
    codes, at = torch.zeros_like(index, dtype=torch.uint8), 0
    for width in planes(bits):
        per_byte = 8 // width
        byte = row[at + index // per_byte]
        field = (byte >> (index % per_byte * width).to(torch.uint8)) & (2**width - 1)
        codes = (codes << width) | field if at else field
        at += eighths * width
    return codes


def pack_mask(mask: Tensor) -> Tensor:
    """(rows, columns) bool → (rows, ⌈columns / 8⌉) uint8, first column in the highest bit."""
    return torch.from_numpy(np.packbits(mask.cpu().numpy(), axis=1)).to(mask.device)


def unpack_mask(bitmap: Tensor, columns: int) -> Tensor:
    """The inverse of `pack_mask`."""
    bits = np.unpackbits(bitmap.cpu().numpy(), axis=1, count=columns)
    return torch.from_numpy(bits.view(np.bool_)).to(bitmap.device)


def select(matrix: Tensor, mask: Tensor) -> Tensor:
    """The values where a mask of the same shape is true, in a row. numpy's selection takes a sixth of torch's time."""
    if matrix.device.type != "cpu":
        return matrix.masked_select(mask)
    return torch.from_numpy(np.compress(mask.numpy().ravel(), _bare(matrix).numpy())).view(matrix.dtype)


def masked(matrix: Tensor, mask: Tensor) -> Tensor:
    """The matrix with zeros where a mask of the same shape is false. Bits by 0 or 1 take a tenth of bfloat16's time."""
    if matrix.dtype != torch.bfloat16:
        return matrix.masked_fill(~mask, 0)
    return (matrix.view(torch.int16) * mask.view(torch.uint8)).view(torch.bfloat16)


def spread(values: Tensor, mask: Tensor) -> Tensor:
    """The inverse of `select`: values where the mask is true, zero elsewhere; (…) in the mask's shape."""
    whole = torch.zeros(mask.shape, dtype=values.dtype, device=values.device)
    if values.device.type != "cpu":
        return whole.masked_scatter_(mask, values)
    _bare(whole).numpy()[np.flatnonzero(mask.numpy())] = _bare(values).numpy()
    return whole


def _bare(tensor: Tensor) -> Tensor:
    """All values in a row, bfloat16 as the bits it is made of: numpy has no such type."""
    flat = tensor.detach().contiguous().view(-1)
    return flat.view(torch.int16) if flat.dtype == torch.bfloat16 else flat
