"""Text of the teacher's own and its predictions: right, repeatable, kept, and read only where it should be."""

import copy
from collections.abc import Generator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from explorer.model import teach
from explorer.model.decode import Batch, Continuation
from explorer.model.opening import Loaded

TEXTS = {"story": ["the cat sat on the mat and the dog ran to the river where the water was cold " * 4] * 3}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LENGTH": 32, "WRITTEN": 3, "GIVEN_TOKENS": 160, "OPENING": 6}.items():
        monkeypatch.setattr(teach, name, value)


def all_of(steps: Generator[float, None, teach.Lessons]) -> tuple[teach.Lessons, list[float]]:
    shares = []
    while True:
        try:
            shares.append(next(steps))
        except StopIteration as end:
            return end.value, shares


def made(loaded: Loaded, folder: Path, texts: dict[str, list[str]] = TEXTS) -> tuple[teach.Lessons, list[float]]:
    return all_of(teach.lessons(loaded.model, loaded.tokenizer, texts, folder, "name"))


def test_predictions_are_those_of_the_model_on_that_very_text(any_model: Loaded, tmp_path: Path) -> None:
    found, shares = made(any_model, tmp_path)
    assert shares == sorted(shares) and shares[-1] == 1 and found.ids.shape == (11, 32)
    with torch.inference_mode():
        exact = copy.deepcopy(any_model.model).float()(input_ids=found.ids).logits[:, :-1].log_softmax(-1)
    kept = found.log_p.float()
    apart = (exact.gather(2, found.top.long()) - kept[..., :-1]).abs()
    assert apart.mean() < 0.03 and apart.max() < 0.3  # bfloat16 of whole logits, on processors that multiply in it
    assert torch.allclose(kept.exp().sum(2), torch.ones(kept.shape[:2]), atol=0.01)


def test_what_the_teacher_wrote_goes_on_from_given_text_by_likely_tokens(llama32: Loaded, tmp_path: Path) -> None:
    found, _ = made(llama32, tmp_path)
    given, written = found.ids[:5], found.ids[5:]
    text = llama32.tokenizer(TEXTS["story"][0])["input_ids"]
    assert torch.equal(given[0, 1:], torch.tensor(text[:31])) and given[0, 0] == llama32.tokenizer.bos_token_id
    openings = {tuple(row) for row in written[:, 1:6].tolist()}
    halves = (0, len(text) // 2)
    assert openings <= {tuple(text[at : at + 5]) for at in halves}
    drawn = written[:, 6:, None] == found.top[5:, 5:]
    assert drawn.any(2).all() and len(set(map(tuple, written.tolist()))) > 1


def test_lessons_are_kept_and_do_not_depend_on_who_asks_again(
    llama: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = made(llama, tmp_path / "a")
    other, _ = made(llama, tmp_path / "b")
    assert all(torch.equal(getattr(first, n), getattr(other, n)) for n in ("ids", "top", "log_p"))
    assert len(first.hidden) == 2 and all(map(torch.equal, first.hidden, other.hidden))

    def never(*_: object) -> None:
        pytest.fail("worked out again")

    monkeypatch.setattr(teach, "_made", never)
    again, shares = made(llama, tmp_path / "a")
    assert shares == [] and torch.equal(again.log_p, first.log_p)
    assert len(again.hidden) == 2 and all(map(torch.equal, again.hidden, first.hidden))


@pytest.mark.parametrize("damage", [b"", b"\xff" * 100])
def test_a_damaged_file_is_worked_out_again(llama: Loaded, tmp_path: Path, damage: bytes) -> None:
    first, _ = made(llama, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage)
    again, shares = made(llama, tmp_path)
    assert shares and torch.equal(again.ids, first.ids)


def test_other_texts_are_other_lessons(llama: Loaded, tmp_path: Path) -> None:
    made(llama, tmp_path)
    made(llama, tmp_path, {"story": [text + "!" for text in TEXTS["story"]]})
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_is_learned_from_what_is_held_out(llama: Loaded, tmp_path: Path) -> None:
    found, _ = made(llama, tmp_path)
    assert sorted(found.held_out + found.learned) == list(range(11)) and len(found.held_out) == 5
    assert not set(found.held_out) & set(found.learned)


def test_many_texts_at_once_are_read_like_each_by_itself(any_model: Loaded) -> None:
    ids: Tensor = torch.randint(2, 300, (3, 12), generator=torch.Generator().manual_seed(2))
    batch = Batch(any_model.model)
    whole = torch.cat([batch.feed(ids[:, :7]), batch.feed(ids[:, 7:8]), batch.feed(ids[:, 8:])], dim=1)
    assert whole.shape == (3, 12, 300)
    for row in range(3):
        alone = Continuation(any_model.model, own_step=False).feed(ids[row : row + 1])
        p, q = alone.log_softmax(-1), whole[row, -1].log_softmax(-1)
        assert float((p.exp() * (p - q)).sum()) < 0.05  # bfloat16 rounds a batch in another order


def test_hidden_states_are_those_behind_half_of_the_blocks_and_before_the_head(any_model: Loaded) -> None:
    ids = torch.randint(2, 300, (2, 12), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        found = any_model.model(input_ids=ids, output_hidden_states=True).hidden_states
    half, last = teach.read(any_model.model, ids).hidden
    if len(found) > 2:  # of one block transformers tells what comes behind the last norm only
        assert torch.equal(half, found[(len(found) - 1) // 2][:, :-1].bfloat16())
    assert torch.equal(last, found[-1][:, :-1].bfloat16())
