"""Which matrices are compressed, in any architecture."""

from collections import Counter
from pathlib import Path

import pytest
from torch import nn

from explorer.layers.targets import siblings, targets, untouched
from explorer.model import opening
from explorer.model.opening import Loaded


@pytest.mark.parametrize(
    "name, attention, mlp, tied", [("llama", 8, 6, True), ("gpt2", 4, 4, True), ("neox", 2, 2, False)]
)
def test_all_linear_layers_of_the_blocks_are_found(
    folders: dict[str, Path], name: str, attention: int, mlp: int, tied: bool
) -> None:
    found = targets(opening.load(str(folders[name])).model)
    assert Counter(t.kind for t in found) == {"attention": attention, "mlp": mlp, "embedding": 1, "head": 1}
    embedding, head = (next(t for t in found if t.kind == kind) for kind in ("embedding", "head"))
    assert head.tied_to == (embedding.name if tied else "")


def test_shapes_are_those_of_the_weights(any_model: Loaded) -> None:
    for target in targets(any_model.model):
        weight = any_model.model.get_submodule(target.name).weight
        assert isinstance(weight, nn.Parameter) and tuple(weight.shape) == target.shape


def test_no_layer_is_found_twice_and_the_embedding_comes_before_its_head(any_model: Loaded) -> None:
    found = targets(any_model.model)
    assert len({t.name for t in found}) == len(found)
    kinds = [t.kind for t in found]
    assert kinds.index("embedding") < kinds.index("head")


def test_targets_and_untouched_together_are_all_matrices(any_model: Loaded) -> None:
    model = any_model.model
    covered = {f"{t.name}.weight" for t in targets(model)}
    left = set(untouched(model, least=0.0)[0])
    assert not covered & left
    assert covered | left >= {n for n, p in model.named_parameters() if p.dim() > 1}


def test_position_tables_are_left_alone_and_named(gpt2: Loaded) -> None:
    left, share = untouched(gpt2.model, least=0.05)
    assert left == ["transformer.wpe.weight"] and 0.2 < share < 0.4


def test_siblings_are_the_layers_that_get_the_same_input(llama: Loaded, gpt2: Loaded) -> None:
    found = {tuple(name.rpartition(".")[2] for name in group) for group in siblings(llama.model)}
    assert found == {("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")} and len(siblings(llama.model)) == 4
    assert siblings(gpt2.model) == []
