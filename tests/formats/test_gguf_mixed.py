"""Matrices rounded for llama.cpp's mixes of types: what is foretold is written, and it is near the original."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeVar

import gguf
import numpy as np
import pytest
import torch

from explorer.formats.gguf_file import GgufFile
from explorer.formats.gguf_mixed import in_words, judged, mix_of, mixed, rounded
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.recipe import Recipe
from tests.formats.conftest import as_gguf

R = TypeVar("R")


def run(steps: Generator[float, None, R]) -> tuple[R, list[float]]:
    shares = []
    while True:
        try:
            shares.append(next(steps))
        except StopIteration as end:
            return end.value, shares


def calibrated(loaded: Loaded) -> Facts:
    facts, noise = Facts(), torch.Generator().manual_seed(3)
    windows = [torch.randint(2, 300, (1, 128), generator=noise) for _ in range(12)]
    assert list(facts.calibrate(loaded.model, windows))[-1] == 1
    return facts


def named(made: GgufFile) -> dict[str, str]:
    return {entry.name: entry.kind for entry in made.entries if entry.leaf is not None}


@pytest.fixture
def wide(tiny_of: Callable[..., Loaded]) -> Loaded:
    """Inside whole super-blocks, outside not."""
    return tiny_of("llama", intermediate_size=512, tie_word_embeddings=True)


@pytest.mark.parametrize("mix", ["Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K"])
def test_what_is_told_is_written(wide: Loaded, mix: str, tmp_path: Path) -> None:
    told = mixed(as_gguf(wide.model, wide), mix, wide.model.config)
    made, shares = run(rounded(told, calibrated(wide)))
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)
    file = tmp_path / "model.gguf"
    assert list(made.write(file))[-1] == pytest.approx(1) and file.stat().st_size == told.bytes
    reader = gguf.GGUFReader(file)
    assert {t.name: t.tensor_type.name for t in reader.tensors if t.name in named(told)} == named(told)
    assert reader.fields["general.file_type"].contents() == int(gguf.LlamaFileType[f"MOSTLY_{mix}"])
    right = {entry.name: entry.data() for entry in as_gguf(wide.model, wide).entries}
    most = {"Q2_K": 0.45, "Q3_K_M": 0.25, "Q4_K_M": 0.12, "Q5_K_M": 0.07, "Q6_K": 0.04}[mix]
    for tensor in reader.tensors:
        found = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert np.linalg.norm(found - right[tensor.name]) <= most * np.linalg.norm(right[tensor.name]), tensor.name


def test_which_rows_are_no_whole_super_blocks_is_said(wide: Loaded) -> None:
    keeps, rounds = in_words(mixed(as_gguf(wide.model, wide), "Q5_K_M", wide.model.config))
    assert keeps == "norms and biases"
    assert rounds[0].startswith("15 matrices rounded for Q5_K_M: ") and "1 as Q5_K, 1 as Q6_K" in rounds[0]
    assert rounds[1].startswith("rows of 13 matrices are no whole super-blocks of 256 (")


def test_calibration_brings_the_outputs_nearer(wide: Loaded) -> None:
    """Under the inputs that the layers get, not as numbers."""
    told, facts = mixed(as_gguf(wide.model, wide), "Q3_K_M", wide.model.config), calibrated(wide)
    lost = dict[bool, float]()
    for known in (True, False):
        made, _ = run(rounded(told, facts if known else Facts()))
        lost[known] = 0.0
        for entry in made.entries:
            if entry.leaf is not None and entry.name.endswith(("gate.weight", "up.weight", "down.weight")):
                back = torch.from_numpy(gguf.dequantize(entry.data(), gguf.GGMLQuantizationType[entry.kind]))
                difference = back - entry.leaf.matrix()
                gram = facts.gram(entry.leaf.name.removesuffix(".weight"))
                lost[known] += float(((difference @ gram) * difference).sum())
    assert lost[True] < 0.7 * lost[False]


def test_experts_are_refused(tiny_of: Callable[..., Loaded]) -> None:
    loaded = tiny_of("qwen3moe")
    with pytest.raises(ValueError, match="Experts"):
        mixed(as_gguf(loaded.model, loaded), "Q4_K_M", loaded.model.config)


def test_a_setting_that_rounds_by_itself_is_refused() -> None:
    judged(Recipe(depth=0.2, width=0.25), "Q4_K_M")
    for recipe in (Recipe(bits=4), Recipe(sparsity=0.5), Recipe(head_bits=8), Recipe(depth=0.2, heal=10)):
        with pytest.raises(ValueError, match="rounds the original's weights itself"):
            judged(recipe, "Q4_K_M")


def test_a_mix_is_told_from_other_methods() -> None:
    assert mix_of(["q4_k_m"]) == ("Q4_K_M", []) and mix_of(["gptq"]) == ("", ["gptq"]) and mix_of([]) == ("", [])
    with pytest.raises(ValueError, match="one grid"):
        mix_of(["Q4_K_M", "Q6_K"])
