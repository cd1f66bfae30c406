"""A second model beside the first: opened from all that can be opened, and met on the same text."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from explorer.__main__ import main
from explorer.layers.dense import FEW
from explorer.measure import size
from explorer.model import opening, places
from explorer.studies.rival import Rivalry, open_rival
from explorer.values.contest import BUDGETS, Contest
from explorer.values.progress import told
from explorer.values.prompt import Prompt
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import COST_CONTEXT, Workbench


def met(rivalry: Rivalry, recipes: list[Recipe], tokens: int = 20) -> Contest:
    shares: list[float] = []
    for found in rivalry.meet(recipes, tokens, rounds=2, decode_steps=2):
        if isinstance(found, Contest):
            assert shares == sorted(shares) and 0 < shares[0] and shares[-1] <= 1
            return found
        shares.append(found)
    raise AssertionError("no contest")


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox"])
def test_a_plain_model_costs_what_its_tensors_and_products_do(folders: dict[str, Path], name: str) -> None:
    place = told(places.locate(str(folders[name])), lambda _: None)
    rival, loaded = open_rival(place), opening.load(str(folders[name]))
    assert rival.size.file_bytes.value == size.stored_bytes(loaded.model) and rival.size.file_bytes.how == "measured"
    texts = FEW + 1  # so many that the products are torch's, which alone are counted
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        loaded.model(torch.ones(texts, 1, dtype=torch.long))
    products = rival.cost.flops_per_token.value - 4 * _width(loaded) * COST_CONTEXT
    assert texts * products == counter.get_total_flops() - _attention(counter)


def _width(loaded: Any) -> int:
    config = loaded.model.config
    return int(config.num_hidden_layers * config.hidden_size)


def _attention(counter: FlopCounterMode) -> int:
    counts = counter.get_flop_counts()["Global"]
    return sum(n for op, n in counts.items() if "attention" in str(op) or "bmm" in str(op))


def test_an_export_is_the_model_it_was_made_from(workbench: Workbench, tmp_path: Path) -> None:
    """Same bytes, parameters, FLOPs and predictions as the setting; so neither is better at equal bytes."""
    recipe = Recipe(sparsity=0.5, bits=4, head_bits=4)
    list(workbench.apply(recipe))
    workbench.export(recipe, tmp_path / "small")
    rivalry = Rivalry(workbench)
    rivalry.open(str(tmp_path / "small"))
    found = met(rivalry, [recipe])
    same = next(one for one in found.ours if one.recipe == recipe)
    for name in ("file_bytes", "parameters", "flops_per_token", "bits_per_byte"):
        assert getattr(found.rival, name).value == getattr(same, name).value, name
    assert same.difference and same.difference.value == 0
    match = found.matches[0]
    assert match.budget == "file_bytes" and match.best is same and match.verdict == "no clear difference"
    assert found.note == recipe.words()


def test_other_architecture_and_tokens(workbench: Workbench, folders: dict[str, Path]) -> None:
    rivalry = Rivalry(workbench)
    with pytest.raises(ValueError, match="no rival"):
        list(rivalry.meet([]))
    rival = rivalry.open(str(folders["gpt2"]))
    assert rivalry.open(str(folders["gpt2"])) is rival
    found = met(rivalry, [Recipe(bits=4, head_bits=4), Recipe(bits=4, head_bits=4)])
    assert [one.recipe for one in found.ours] == [Recipe(), Recipe(bits=4, head_bits=4)]
    assert found.count >= 80 and len(found.matches) == len(BUDGETS)
    for one in (found.rival, *found.ours):
        assert one.ms_per_token.value > 0 and 0 < one.bits_per_byte.value < 100
    assert all(one.difference for one in found.ours) and found.rival.difference is None
    assert json.loads(json.dumps(found.to_dict()))["bytes"] == found.count
    text = list(rivalry.write(Prompt(text="the cat", new_tokens=4)))
    assert 0 < text[-1].tokens <= 4


def test_a_rival_is_found_beside_the_steps_on_the_model_and_opened_in_one(
    workbench: Workbench, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, threading.Thread] = {}

    def note(module: Any, name: str) -> None:
        real = getattr(module, name)

        def noted(*values: Any, **options: Any) -> Any:
            threads[name] = threading.current_thread()
            return real(*values, **options)

        monkeypatch.setattr(module, name, noted)

    note(places, "locate"), note(opening, "open_place")
    sentences = list(Rivalry(workbench).opening(str(folders["gpt2"])))
    assert sentences == [f"Opening {folders['gpt2']}."]
    assert threads["locate"] is threading.current_thread()
    assert threads["open_place"] is workbench.engine.step(threading.current_thread)


def test_what_is_known_is_not_read_again(workbench: Workbench, folders: dict[str, Path]) -> None:
    rivalry = Rivalry(workbench)
    rivalry.open(str(folders["gpt2"]))
    first = met(rivalry, [])
    known = {key: list(nats) for key, nats in rivalry._nats.items()}
    assert met(rivalry, []).rival.bits_per_byte == first.rival.bits_per_byte and rivalry._nats == known
    rivalry.open(str(folders["neox"]))
    assert met(rivalry, []).rival.bits_per_byte != first.rival.bits_per_byte
    assert rivalry._nats[Recipe()] == known[Recipe()] and rivalry._nats[None] != known[None]


def test_the_command_prints_the_contest_after_the_records(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, text = str(folders["llama"]), tmp_path / "own.txt"
    text.write_text("The cat sat on the mat and waited.\n---\nThe dog ran to the river, where it was cold.")
    words = ["measure", "--model", model, "--text", str(text), "--tokens", "20", "--rounds", "2", "--bits", "8"]
    words += ["--quant", "rtn", "--rival", str(folders["gpt2"])]
    assert main([*words, "--json"]) == 0
    record, contest = map(json.loads, capsys.readouterr().out.splitlines())
    assert record["recipe"]["bits"] == 8
    assert contest["rival"]["bits_per_byte"]["value"] > 0 and len(contest["ours"]) == 2
    assert set(contest["matches"]) == set(BUDGETS)
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "bits per byte" in printed and "at no more bytes than it, ours" in printed
    assert main([*words[:-1], str(tmp_path / "nothing")]) == 2
    assert "no folder" in capsys.readouterr().err.splitlines()[-1]
