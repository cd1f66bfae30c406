"""Which kernel is taken: only what runs here and gives the right product, the quicker of two, and why none."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from explorer.layers import choice, compiled, kernels
from explorer.layers.storage import Quantized, Spec, Stored, encode
from explorer.methods import prune

BNB = [Spec(format=format) for format in ("nf4", "fp4", "int8")]
X = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(6)).bfloat16()
compiles = pytest.mark.skipif(not compiled.available(), reason="nothing compiles products for this processor")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only kernels that come with libraries."""
    monkeypatch.setattr(compiled, "available", lambda: False)


def made(shape: tuple[int, int], spec: Spec, dtype: torch.dtype = torch.bfloat16) -> Stored:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(4)) * 0.1
    mask = None if spec.kept is None else prune.mask_from_keys(prune.keys(weight.abs()), 1 - spec.kept / shape[1])
    return encode(weight.to(dtype), spec, mask)


@compiles
def test_the_quicker_of_two_kernels_is_taken_as_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = made((16, 64), Spec(bits=4))
    monkeypatch.setattr(choice, "_measured", {})
    for quick, kind in (("int4pack", kernels.Int4Pack), ("compiled int4", kernels.Compiled)):
        choice.prefer({"int4pack": 2.0, "compiled int4": 2.0, "dense": 0.1} | {quick: 1.0})
        assert choice.choose(stored) is kind


@pytest.mark.parametrize("missing", ["_target", "_parallel_for"])
def test_without_what_compiles_there_is_no_compiled_product(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "available", compiled.available.__wrapped__)
    monkeypatch.setattr(compiled, missing, lambda: None)
    assert not compiled.available()
    assert choice.candidates(made((16, 64), Spec(bits=6))) == [kernels.Decoded]


@pytest.mark.usefixtures("plain")
def test_a_reason_is_given_exactly_where_a_saving_is_not_there() -> None:
    assert choice.why_decoded(made((16, 64), Spec())) == ""
    assert choice.why_decoded(made((16, 64), Spec(bits=4))) == ""
    assert "zeros" in choice.why_decoded(made((16, 64), Spec(kept=32))).lower()
    assert "6 bits" in choice.why_decoded(made((16, 64), Spec(bits=6)))


@pytest.mark.usefixtures("plain")
def test_a_missing_operator_means_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_has", lambda operator: False)
    for spec in (Spec(bits=4), Spec(bits=8, group=0)):
        stored = made((16, 64), spec)
        assert isinstance(stored, Quantized) and isinstance(choice.build(stored), kernels.Decoded)


@pytest.mark.parametrize("spec", BNB, ids=str)
def test_bitsandbytes_runs_decoded_where_it_would_be_slow_or_wrong(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    single, half = made((16, 64), spec, torch.float32), made((16, 64), spec)
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
def test_parts_that_differ_do_not_run_as_one() -> None:
    nf4, four = made((16, 64), Spec(format="nf4")), made((16, 64), Spec(bits=4))
    assert not choice.joint([nf4, four]) and not choice.joint([four, made((16, 128), Spec(bits=4))])
    assert not choice.joint([nf4, made((16, 64), Spec(format="fp4"))])
    assert not choice.joint([made((16, 64), Spec(bits=6))] * 2)
    assert not choice.joint([made((16, 64), Spec(bits=4, kept=32))] * 2)
