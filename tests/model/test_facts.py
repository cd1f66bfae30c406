"""What is found out once: kept, equal after a restart, and never taken for another model's."""

import copy
from pathlib import Path

import pytest
import torch

from explorer.layers.targets import targets
from explorer.methods import factorize, prune
from explorer.model.facts import Facts, bytes_needed, fingerprint
from explorer.model.hub import Loaded


@pytest.fixture
def prepared(llama: Loaded) -> Facts:
    facts = Facts()
    for _ in facts.prepare(llama.model):
        pass
    return facts


def equal(one: Facts, other: Facts) -> bool:
    return one._kept.keys() == other._kept.keys() and all(torch.equal(t, other._kept[k]) for k, t in one._kept.items())


def test_preparing_covers_every_layer_and_ends_at_one(llama: Loaded) -> None:
    facts = Facts()
    shares = list(facts.prepare(llama.model))
    layers = [t for t in targets(llama.model) if t.kind in ("attention", "mlp")]
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) == len(layers)
    kept = set(facts._kept)
    for target in layers:
        weight = llama.model.get_submodule(target.name).weight
        facts.ranks(target.name, weight), facts.right_ranks(target.name, weight), facts.spectrum(target.name, weight)
    assert set(facts._kept) == kept


def test_saved_and_loaded_they_are_equal(prepared: Facts, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "facts.safetensors"
    prepared.save(file)
    loaded = Facts()
    assert loaded.load(file) and equal(loaded, prepared)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_what_was_not_prepared_is_worked_out_when_asked_and_the_same(llama: Loaded, prepared: Facts) -> None:
    lazy = Facts()
    for target in targets(llama.model)[1:4]:
        weight = llama.model.get_submodule(target.name).weight
        assert torch.equal(lazy.right_ranks(target.name, weight), prepared.right_ranks(target.name, weight))
        assert torch.equal(lazy.ranks(target.name, weight), prepared.ranks(target.name, weight))


def test_ranks_are_those_of_magnitudes(llama: Loaded, prepared: Facts) -> None:
    target = targets(llama.model)[1]
    weight = llama.model.get_submodule(target.name).weight
    assert torch.equal(prepared.ranks(target.name, weight), prune.ranks(prune.magnitude_keys(weight)))


def test_spectra_stop_where_factorizing_stops_paying(llama: Loaded, prepared: Facts) -> None:
    for target in targets(llama.model)[1:4]:
        left, right = prepared.spectrum(target.name, llama.model.get_submodule(target.name).weight)
        assert left.shape[1] == right.shape[0] == factorize.highest_rank(*target.shape)


def test_facts_that_were_never_saved_are_not_loaded(tmp_path: Path) -> None:
    assert not Facts().load(tmp_path / "nothing")


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_file_is_removed_and_worked_out_again(
    prepared: Facts, llama: Loaded, tmp_path: Path, damage: str
) -> None:
    file = tmp_path / "facts.safetensors"
    prepared.save(file)
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[: len(whole) // 2], "noise": b"\xff" * 100, "empty": b""}[damage])
    again = Facts()
    assert not again.load(file) and not file.exists()
    for _ in again.prepare(llama.model):
        pass
    again.save(file)
    assert Facts().load(file) and equal(again, prepared)


def test_saving_that_fails_leaves_nothing_behind(
    prepared: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: object, file: Path) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("explorer.model.facts.save_file", full)
    with pytest.raises(OSError, match="no space"):
        prepared.save(tmp_path / "facts.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_fingerprint_is_of_exactly_these_weights(llama: Loaded, llama32: Loaded, gpt2: Loaded) -> None:
    other = copy.deepcopy(llama.model)
    assert fingerprint(other) == fingerprint(llama.model)
    other.model.layers[1].mlp.up_proj.weight.data[3, 5] += 1
    assert fingerprint(other) != fingerprint(llama.model)
    assert len({fingerprint(each.model) for each in (llama, llama32, gpt2)}) == 3


def test_the_memory_that_facts_take_is_known_before(llama: Loaded, prepared: Facts) -> None:
    held = sum(tensor.nbytes for tensor in prepared._kept.values())
    assert 0.7 * held <= bytes_needed(llama.model) <= 2 * held
