"""What is found out once: kept, equal after a restart, and never taken for another model's."""

import copy
from pathlib import Path

import pytest
import torch

from explorer.layers.targets import siblings, targets
from explorer.methods import factorize, prune
from explorer.model.calibrating import felt
from explorer.model.facts import Facts, fingerprint
from explorer.model.opening import Loaded


def windows(count: int = 6) -> list[torch.Tensor]:
    noise = torch.Generator().manual_seed(4)
    return [torch.randint(2, 300, (1, 30), generator=noise) for _ in range(count)]


def informed(model: torch.nn.Module) -> Facts:
    facts = Facts()
    list(facts.calibrate(model, windows())), list(facts.prepare(model))
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
    list(facts.calibrate(llama.model, windows()))
    shares = list(facts.prepare(llama.model))
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) > len(layers_of(llama))
    kept = set(facts._kept)
    for name, weight in layers_of(llama):
        facts.ranks(name, weight, "wanda"), facts.spectrum(name, weight, "covariance"), facts.grid(name, weight, 4, 64)
    assert set(facts._kept) == kept and not facts._slopes


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
    list(facts.prepare(llama.model))
    assert equal(facts, informed(llama.model))


def test_asking_before_the_outputs_were_weighed_spoils_nothing(llama: Loaded) -> None:
    facts = Facts()
    list(facts.calibrate(llama.model, windows()))
    steps = facts.prepare(llama.model)
    early = [facts.spectrum(name, weight, "covariance")[2] for name, weight in layers_of(llama)]
    next(steps)
    for name, weight in layers_of(llama):
        facts.spectrum(name, weight, "covariance")
    list(steps)
    assert equal(facts, informed(llama.model))
    late = [facts.spectrum(name, weight, "covariance")[2] for name, weight in layers_of(llama)]
    assert not any(torch.equal(one, other) for one, other in zip(early, late, strict=True))


@pytest.mark.parametrize("room", [1, 60_000])
def test_a_few_blocks_at_a_time_give_what_all_at_once_give(
    llama: Loaded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, room: int
) -> None:
    whole = informed(llama.model)
    list(whole.refine(llama.model))
    monkeypatch.setattr("explorer.model.facts._room", lambda *_: room)
    monkeypatch.setattr("explorer.model.calibrating.LEAST_TOKENS", 3072)  # as many gradients as with more room
    parts = Facts(tmp_path / "facts")
    list(parts.calibrate(llama.model, windows())), list(parts.prepare(llama.model)), list(parts.refine(llama.model))
    assert equal(parts, whole) and len(list((tmp_path / "facts").iterdir())) == 6


def test_of_a_large_model_only_ranges_are_worked_out_before(llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.model.facts.WORKED_OUT", 1000)
    facts, (name, weight) = Facts(), layers_of(llama)[0]
    list(facts.calibrate(llama.model, windows())), list(facts.prepare(llama.model))
    assert f"{name}|grid.4.64.scale" in facts._kept and f"{name}|wanda.ranks" not in facts._kept
    assert facts.spectrum(name, weight, "covariance")[0].shape[0] == weight.shape[0]


def test_without_gradients_all_outputs_count_the_same(llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise RuntimeError("no way back")

    monkeypatch.setattr("explorer.model.facts.felt", none)
    facts = informed(llama.model)
    name, weight = layers_of(llama)[0]
    assert "Gradients cannot be taken" in facts.notes[0]
    alone = factorize.spectrum(weight, factorize.highest_rank(*weight.shape), facts.gram(name))
    assert all(map(torch.equal, facts.spectrum(name, weight, "covariance"), alone))


def test_refining_mixes_in_how_strongly_the_loss_feels_each_token(llama32: Loaded, tmp_path: Path) -> None:
    facts = Facts(tmp_path / "facts")
    list(facts.calibrate(llama32.model, windows()))
    name, _ = layers_of(llama32)[0]
    plain = facts.gram(name)
    assert plain is not None and not facts.refined and facts.felt_gram(name) is facts.gram(name)
    facts.save()
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
    loaded = Facts(tmp_path / "facts")
    assert loaded.load() and loaded.refined and equal(loaded, facts)


def test_siblings_share_what_goes_into_them(prepared: Facts, llama: Loaded) -> None:
    for first, *others in siblings(llama.model):
        assert all(prepared.gram(name) is prepared.gram(first) is not None for name in others)
        assert all(prepared.mean_size(name) is prepared.mean_size(first) for name in others)


def test_without_calibration_the_weights_alone_decide(llama: Loaded) -> None:
    facts, (name, weight) = Facts(), layers_of(llama)[0]
    assert facts.gram(name) is facts.felt_gram(name) is facts.importance(name) is facts.mean_size(name) is None
    assert torch.equal(facts.score(name, weight, "wanda"), weight.abs())
    assert torch.equal(facts.spectrum(name, weight, "covariance")[1], Facts().spectrum(name, weight, "svd")[1])


def test_saved_and_loaded_they_are_equal(prepared: Facts, llama: Loaded, tmp_path: Path) -> None:
    kept = kept_in(tmp_path / "deep" / "facts", llama)
    loaded = Facts(tmp_path / "deep" / "facts")
    assert loaded.load() and equal(loaded, kept) and equal(loaded, prepared) and loaded.tokens == 180 and loaded.saved
    assert loaded._input_of == prepared._input_of and all(map(torch.equal, loaded.windows, prepared.windows))


def kept_in(folder: Path, loaded: Loaded) -> Facts:
    facts = Facts(folder)
    list(facts.calibrate(loaded.model, windows())), list(facts.prepare(loaded.model)), facts.save()
    return facts


def test_what_was_not_prepared_is_worked_out_when_asked_and_the_same(llama: Loaded, prepared: Facts) -> None:
    lazy = Facts()
    list(lazy.calibrate(llama.model, windows()))
    for name, weight in layers_of(llama)[:3]:
        for method in ("magnitude", "wanda"):
            right = lazy.right_ranks(name, weight, "asvd", method)
            assert torch.equal(right, prepared.right_ranks(name, weight, "asvd", method))
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
    assert not Facts(tmp_path / "nothing").load() and not Facts().load()


@pytest.mark.parametrize("file", ["about", "inputs-0001", "layers-0000"])
@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_file_takes_all_with_it(
    prepared: Facts, llama: Loaded, tmp_path: Path, damage: str, file: str
) -> None:
    kept_in(tmp_path / "facts", llama)
    damaged = tmp_path / "facts" / f"{file}.safetensors"
    whole = damaged.read_bytes()
    damaged.unlink()  # what is kept may be pages of the very file
    damaged.write_bytes({"cut": whole[: len(whole) // 2], "noise": b"\xff" * 100, "empty": b""}[damage])
    assert not Facts(tmp_path / "facts").load() and not (tmp_path / "facts").exists()
    assert equal(kept_in(tmp_path / "facts", llama), prepared) and Facts(tmp_path / "facts").load()


def test_where_nothing_can_be_written_work_goes_on_in_memory(
    prepared: Facts, llama: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: object, file: Path, **_: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("explorer.model.disk.save_file", full)
    assert equal(kept_in(tmp_path / "facts", llama), prepared)
    assert list((tmp_path / "facts").iterdir()) == []


def test_a_fingerprint_is_of_exactly_these_weights(llama: Loaded, llama32: Loaded, gpt2: Loaded) -> None:
    other = copy.deepcopy(llama.model)
    assert fingerprint(other) == fingerprint(llama.model)
    other.model.layers[1].mlp.up_proj.weight.data[3, 5] += 1
    assert fingerprint(other) != fingerprint(llama.model)
    assert len({fingerprint(each.model) for each in (llama, llama32, gpt2)}) == 3
