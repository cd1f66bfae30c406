"""What is written in LLVM's language is accepted by it; work in parts is done once for each piece, on any thread."""

import ctypes

import pytest
import torch

from explorer.native import encoding, llvm

compiles = pytest.mark.skipif(not llvm.available(), reason="nothing is compiled on this processor")


@pytest.mark.parametrize("element", ["i8", "i16", "i32"])
@pytest.mark.parametrize("name", encoding.NAMES)
def test_every_program_is_accepted(name: str, element: str) -> None:
    binding = pytest.importorskip("llvmlite.binding")
    if element == "i8" and name in ("ranges", "round", "decode"):
        return  # numbers only
    module = binding.parse_assembly(encoding.program(name, element))
    module.verify()
    assert {each.name for each in module.functions if not each.is_declaration} == {"rows", name}


@compiles
@pytest.mark.parametrize("count, grain", [(1, 1), (1000, 1), (1000, 7), (5, 100)])
def test_work_in_parts_is_done_once_for_each_piece(count: int, grain: int) -> None:
    given = {"seen": "ptr", "more": "i64"}
    f = llvm.part("one", given)
    with f.each("%end", "%begin") as i:
        at = f.at("%seen", i, "i64")
        f.do(f"store i64 {f.add(f.get(at, 'i64'), '%more')}, ptr {at}")
    text = f.text() + llvm.in_parts("all", "one", given)
    run = llvm.build(text, {"all": [ctypes.c_void_p] + [ctypes.c_int64] * 3})["all"]
    seen = torch.zeros(count, dtype=torch.int64)
    run(seen.data_ptr(), 3, count, grain)
    assert (seen == 3).all()
