"""What is written in LLVM's language is accepted by it, for every width, grouping and kind of input."""

import pytest

from explorer.native.product_code import program


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("group", [8, 16, 32, 64, 128])
@pytest.mark.parametrize("width", [4, 8])
def test_every_program_is_accepted(width: int, group: int, narrow: bool) -> None:
    llvm = pytest.importorskip("llvmlite.binding")
    module = llvm.parse_assembly(program(width, group, narrow))
    module.verify()
    assert {each.name for each in module.functions if not each.is_declaration} == {"round", "rows", "product"}
