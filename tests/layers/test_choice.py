"""Which kernel is taken: only what runs here and gives the right product, the quicker of two, and why none."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from explorer.layers import choice, kernels
from explorer.layers.storage import Quantized, Spec, Stored
from explorer.native import llvm

Maker = Callable[..., Stored]
BNB = [Spec(format=format) for format in ("nf4", "fp4", "int8")]
X = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(6)).bfloat16()
compiles = pytest.mark.skipif(not llvm.available(), reason="nothing compiles products for this processor")


@compiles
def test_the_quicker_of_two_kernels_is_taken_as_measured(stored_of: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = stored_of((16, 64), Spec(bits=4))
    monkeypatch.setattr(choice, "_measured", {})
    for quick, kind in (("int4pack", kernels.Int4Pack), ("compiled int4", kernels.Compiled)):
        choice.prefer({"int4pack": 2.0, "compiled int4": 2.0, "dense": 0.1} | {quick: 1.0})
        assert choice.choose(stored) is kind


@pytest.mark.parametrize("missing", ["_processor", "parallel_for"])
def test_without_what_compiles_there_is_no_compiled_product(
    stored_of: Maker, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llvm, "available", llvm.available.__wrapped__)
    monkeypatch.setattr(llvm, missing, lambda: None)
    assert not llvm.available()
    assert choice.candidates(stored_of((16, 64), Spec(bits=6))) == [kernels.Decoded]


@pytest.mark.usefixtures("plain")
def test_a_reason_is_given_exactly_where_a_saving_is_not_there(stored_of: Maker) -> None:
    assert choice.why_decoded(stored_of((16, 64), Spec())) == ""
    assert choice.why_decoded(stored_of((16, 64), Spec(bits=4))) == ""
    assert "zeros" in choice.why_decoded(stored_of((16, 64), Spec(kept=32))).lower()
    assert "6 bits" in choice.why_decoded(stored_of((16, 64), Spec(bits=6)))


@pytest.mark.usefixtures("plain")
def test_a_missing_operator_means_decoded(stored_of: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_has", lambda operator: False)
    for spec in (Spec(bits=4), Spec(bits=8, group=0)):
        stored = stored_of((16, 64), spec)
        assert isinstance(stored, Quantized) and isinstance(choice.build(stored), kernels.Decoded)


@pytest.mark.parametrize("spec", BNB, ids=str)
def test_bitsandbytes_runs_decoded_where_it_would_be_slow_or_wrong(
    stored_of: Maker, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    single, half = stored_of((16, 64), spec, torch.float32), stored_of((16, 64), spec)
    assert isinstance(choice.build(single), kernels.Decoded) and "bfloat16" in choice.why_decoded(single)
    monkeypatch.setattr(choice, "_fast", lambda format: False)
    assert isinstance(choice.build(half), kernels.Decoded) and "processor" in choice.why_decoded(half)
    monkeypatch.setattr(choice, "_fast", lambda format: True)
    monkeypatch.setattr(choice, "_proven", lambda *_: False)
    assert isinstance(choice.build(half), kernels.Decoded) and "no right product" in choice.why_decoded(half)
    assert torch.equal(choice.build(half)(X), F.linear(X, half.dense()))


class Twisted(kernels.Decoded):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flip(-1)


class Broken(kernels.Decoded):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no such image")


def test_a_kernel_is_proven_by_its_product() -> None:
    spec = Spec(bits=4)
    assert choice._proven(kernels.Decoded, spec, "cpu") and choice._proven(kernels.Int4Pack, spec, "cpu")
    for kind in (Twisted, Broken, kernels.TinyGemm):  # the last has its operators on CUDA alone
        assert not choice._proven(kind, spec, "cpu")


@pytest.mark.usefixtures("plain")
def test_parts_that_differ_do_not_run_as_one(stored_of: Maker) -> None:
    nf4, four = stored_of((16, 64), Spec(format="nf4")), stored_of((16, 64), Spec(bits=4))
    assert not choice.joint([nf4, four]) and not choice.joint([four, stored_of((16, 128), Spec(bits=4))])
    assert not choice.joint([nf4, stored_of((16, 64), Spec(format="fp4"))])
    assert not choice.joint([stored_of((16, 64), Spec(bits=6))] * 2)
    assert not choice.joint([stored_of((16, 64), Spec(bits=4, kept=32))] * 2)
