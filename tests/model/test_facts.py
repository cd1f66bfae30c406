"""What is found out once: kept, equal after a restart, and never taken for another model's."""

import copy
from pathlib import Path

import pytest
import torch

from explorer.layers.targets import siblings, targets
from explorer.methods import factorize, prune
from explorer.model.calibrating import felt
from explorer.model.facts import Facts, bytes_needed, fingerprint
from explorer.model.opening import Loaded


def windows(count: int = 6) -> list[torch.Tensor]:
    noise = torch.Generator().manual_seed(4)
    return [torch.randint(2, 300, (1, 30), generator=noise) for _ in range(count)]


def informed(model: torch.nn.Module) -> Facts:
    facts = Facts()
    list(facts.calibrate(model, windows())), list(facts.weigh_outputs(model)), list(facts.prepare(model))
    return facts


@pytest.fixture
def prepared(llama: Loaded) -> Facts:
    return informed(llama.model)


def layers_of(loaded: Loaded) -> list[tuple[str, torch.Tensor]]:
    found = [t.name for t in targets(loaded.model) if t.kind in ("attention", "mlp")]
    return [(name, loaded.model.get_submodule(name).weight) for name in found]


def equal(one: Facts, other: Facts) -> bool:
    return one._kept.keys() == other._kept.keys() and all(torch.equal(t, other._kept[k]) for k, t in one._kept.items())


def test_preparing_covers_every_layer_and_ends_at_one(llama: Loaded) -> None:
    facts = Facts()
    list(facts.calibrate(llama.model, windows())), list(facts.weigh_outputs(llama.model))
    shares = list(facts.prepare(llama.model))
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) == len(layers_of(llama))
    kept = set(facts._kept)
    for name, weight in layers_of(llama):
        facts.ranks(name, weight, "wanda"), facts.spectrum(name, weight, "covariance"), facts.grid(name, weight, 4, 64)
    assert set(facts._kept) == kept and not facts._outputs


def test_levels_are_announced(llama: Loaded) -> None:
    facts, levels = Facts(), list[int]()
    for share in facts.calibrate(llama.model, windows(), first=60):
        levels.append(facts.tokens)
        assert 0 < share <= 1
    assert levels == [0, 60, 60, 60, 60, 180] and share == 1
    assert [w.tolist() for w in facts.windows] == [w.tolist() for w in windows()]


def test_a_new_level_drops_what_followed_from_the_last(llama: Loaded) -> None:
    facts, (name, weight) = Facts(), layers_of(llama)[0]
    for _ in facts.calibrate(llama.model, windows(), first=30):
        if facts.tokens:
            facts.ranks(name, weight, "wanda"), facts.grid(name, weight, 4, 64)
    list(facts.weigh_outputs(llama.model)), list(facts.prepare(llama.model))
    assert equal(facts, informed(llama.model))


def test_asking_before_the_outputs_were_weighed_spoils_nothing(llama: Loaded) -> None:
    facts = Facts()
    list(facts.calibrate(llama.model, windows()))
    steps = facts.weigh_outputs(llama.model)
    early = [facts.spectrum(name, weight, "covariance")[2] for name, weight in layers_of(llama)]
    next(steps)
    for name, weight in layers_of(llama):
        facts.spectrum(name, weight, "covariance")
    list(steps), list(facts.prepare(llama.model))
    assert equal(facts, informed(llama.model))
    late = [facts.spectrum(name, weight, "covariance")[2] for name, weight in layers_of(llama)]
    assert not any(torch.equal(one, other) for one, other in zip(early, late, strict=True))


def test_refining_mixes_in_how_strongly_the_loss_feels_each_token(llama32: Loaded, tmp_path: Path) -> None:
    facts = Facts()
    list(facts.calibrate(llama32.model, windows()))
    name, _ = layers_of(llama32)[0]
    plain = facts.gram(name)
    assert plain is not None and not facts.refined and facts.felt_gram(name) is plain
    facts.save(tmp_path / "facts")
    assert list(facts.refine(llama32.model))[-1] == 1 and facts.refined
    found = facts.felt_gram(name)
    assert found is not None and not torch.equal(found, plain)
    assert torch.isclose(found.diagonal().mean(), plain.diagonal().mean(), rtol=1e-4)
    names, total = [n for n, key in facts._input_of.items() if key == name], torch.zeros(64, 64)
    for done, ids in enumerate(windows(), 1):
        seen: list[tuple[str, torch.Tensor, torch.Tensor]] = []
        felt(llama32.model, ids, facts._input_of, done, lambda *found, seen=seen: seen.append(found))
        gradients = [(x, g) for n, x, g in seen if n in names]
        power = sum(g.square().sum(1, keepdim=True) for _, g in gradients)
        total += (gradients[0][0] * power).T @ gradients[0][0]
    by_hand = (plain + total * plain.diagonal().mean() / total.diagonal().mean()) / 2
    torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=1e-5)
    loaded = Facts()
    assert loaded.load(tmp_path / "facts") and loaded.refined and equal(loaded, facts)


def test_siblings_share_what_goes_into_them(prepared: Facts, llama: Loaded) -> None:
    for first, *others in siblings(llama.model):
        assert all(prepared.gram(name) is prepared.gram(first) is not None for name in others)
        assert all(prepared.mean_size(name) is prepared.mean_size(first) for name in others)


def test_without_calibration_the_weights_alone_decide(llama: Loaded) -> None:
    facts, (name, weight) = Facts(), layers_of(llama)[0]
    assert facts.gram(name) is facts.felt_gram(name) is facts.importance(name) is facts.mean_size(name) is None
    assert torch.equal(facts.score(name, weight, "wanda"), weight.abs())
    assert torch.equal(facts.spectrum(name, weight, "covariance")[1], Facts().spectrum(name, weight, "svd")[1])


def test_saved_and_loaded_they_are_equal(prepared: Facts, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "facts.safetensors"
    prepared.save(file)
    loaded = Facts()
    assert loaded.load(file) and equal(loaded, prepared) and loaded.tokens == 180
    assert loaded._input_of == prepared._input_of and all(map(torch.equal, loaded.windows, prepared.windows))
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_what_was_not_prepared_is_worked_out_when_asked_and_the_same(llama: Loaded, prepared: Facts) -> None:
    lazy = Facts()
    list(lazy.calibrate(llama.model, windows())), list(lazy.weigh_outputs(llama.model))
    for name, weight in layers_of(llama)[:3]:
        for method in ("magnitude", "wanda"):
            right = lazy.right_ranks(name, weight, "covariance", method)
            assert torch.equal(right, prepared.right_ranks(name, weight, "covariance", method))
            assert torch.equal(lazy.ranks(name, weight, method), prepared.ranks(name, weight, method))


def test_ranks_are_those_of_the_scores(llama: Loaded, prepared: Facts) -> None:
    name, weight = layers_of(llama)[0]
    importance = prepared.importance(name)
    assert importance is not None
    by_hand = prune.wanda(weight, importance)
    assert torch.equal(prepared.ranks(name, weight, "magnitude"), prune.ranks(prune.keys(weight.abs())))
    assert torch.equal(prepared.ranks(name, weight, "wanda"), prune.ranks(prune.keys(by_hand)))
    assert torch.equal(prepared.score(name, weight, "ria"), prune.ria(weight, importance))


def test_spectra_stop_where_factorizing_stops_paying(llama: Loaded, prepared: Facts) -> None:
    for name, weight in layers_of(llama)[:3]:
        for method in ("covariance", "asvd", "svd"):
            left, right, values = prepared.spectrum(name, weight, method)
            assert left.shape[1] == right.shape[0] == factorize.highest_rank(*weight.shape)
            assert len(values) == min(weight.shape)


def test_facts_that_were_never_saved_are_not_loaded(tmp_path: Path) -> None:
    assert not Facts().load(tmp_path / "nothing")


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_file_is_removed_and_worked_out_again(
    prepared: Facts, llama: Loaded, tmp_path: Path, damage: str
) -> None:
    file = tmp_path / "facts.safetensors"
    prepared.save(file)
    whole = file.read_bytes()
    file.unlink()  # what is kept may be pages of the very file
    file.write_bytes({"cut": whole[: len(whole) // 2], "noise": b"\xff" * 100, "empty": b""}[damage])
    again = Facts()
    assert not again.load(file) and not file.exists()
    again = informed(llama.model)
    again.save(file)
    assert Facts().load(file) and equal(again, prepared)


def test_saving_that_fails_leaves_nothing_behind(
    prepared: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: object, file: Path, **_: object) -> None:
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
