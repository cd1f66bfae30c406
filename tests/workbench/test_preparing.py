"""Facts are worked out in the pauses of everything else."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from explorer.values.prompt import Prompt
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

FREE, INFORMED = Recipe(sparsity=0.5, prune="magnitude", keep=0.6, factorize="svd"), Recipe(keep=0.6)


def ids_of(workbench: Workbench, recipe: Recipe) -> list[int]:
    prompt = Prompt(text="the cat", new_tokens=12, chat=False)
    return [piece.token for piece in workbench.write(recipe, prompt)]


def test_facts_are_prepared_once_and_taken_up_at_the_next_start(unprepared: Workbench, cache: Path) -> None:
    before = ids_of(unprepared, FREE)
    shares = list(unprepared.prepare())
    assert shares == sorted(shares) and 0.99 < shares[-1] <= 1
    assert unprepared.prepared == 1 and unprepared.seconds["prepare"] > 0 and list(unprepared.prepare()) == []
    assert ids_of(unprepared, FREE) == before
    informed = ids_of(unprepared, INFORMED)
    again = Workbench(unprepared.name).load()
    assert again.prepared == 1 and again.seconds["prepare"] == 0
    assert ids_of(again, FREE) == before and ids_of(again, INFORMED) == informed
    file = next((cache / "facts").iterdir()) / "inputs-0000.safetensors"
    file.unlink()  # the others' facts are pages of it
    file.write_bytes(b"damaged")
    assert Workbench(unprepared.name).load().prepared == 0


def test_preparing_gives_way_to_a_visitor(unprepared: Workbench) -> None:
    with unprepared.visit():
        thread = unprepared.preparation.in_background(unprepared.prepare)
        thread.join(0.4)
        assert thread.is_alive()
    thread.join(30)
    assert not thread.is_alive() and unprepared.prepared == 1


def test_what_comes_after_preparing_waits_until_a_slider_has_rested(
    unprepared: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explorer.workbench.preparing.PATIENCE", 60.0)
    seen = list[int]()
    unprepared.preparation.moved()  # preparing itself is not put off: who never rests would never get it
    thread = unprepared.preparation.in_background(unprepared.prepare, lambda: (seen.append(i) for i in range(3)))
    for _ in range(300):
        if unprepared.prepared == 1:
            break
        thread.join(0.1)
    thread.join(0.4)
    assert thread.is_alive() and len(seen) <= 1
    monkeypatch.setattr("explorer.workbench.preparing.PATIENCE", 0.0)
    thread.join(30)
    assert not thread.is_alive() and len(seen) == 3


def test_preparing_leaves_the_modes_of_its_thread_alone(unprepared: Workbench) -> None:
    def half_way() -> bool:
        with torch.inference_mode():
            steps = unprepared.prepare()
            next(steps)
            return torch.is_inference_mode_enabled()

    with ThreadPoolExecutor(1) as thread:  # so that what leaks, leaks there
        assert thread.submit(half_way).result()


def test_a_model_too_large_to_prepare_says_so(unprepared: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.workbench.preparing.free_bytes", lambda: 0)
    assert list(unprepared.prepare()) == [] and unprepared.prepared == 0
    assert "of memory for its largest block" in " ".join(unprepared.notes())
