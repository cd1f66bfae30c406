"""The questions as they are kept, answers against a plain loop, and what flips prove."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import nn

from explorer.measure import questions
from explorer.measure.questions import Examiner, answers, mcnemar, sheet, summarize
from explorer.model import opening
from explorer.model.compressing import compress, settle
from explorer.model.facts import Facts
from explorer.model.opening import Loaded
from explorer.values.questions import Answer, Question
from explorer.values.recipe import Recipe

ALL = questions.questions()


def test_there_are_six_kinds_and_none_gives_itself_away() -> None:
    kinds = Counter(question.kind for question in ALL)
    assert len(kinds) == 6 and min(kinds.values()) >= 20 and len(ALL) >= 120
    assert len({question.begins for question in ALL}) == len(ALL)
    for question in ALL:
        lengths = [len(choice) for choice in question.choices]
        assert len({*question.choices}) == 4 and max(lengths) <= min(lengths) + 6, question
        assert all(choice == choice.strip() for choice in question.choices) and question.begins[-1] not in " ."
    assert {question.kind for question in ALL[:6]} == set(kinds)  # any first part is a fair mix


def test_the_right_end_is_not_told_by_its_length() -> None:
    """Always taking the longest end, or the shortest, gets no more than guessing would, give or take."""
    for pick in (max, min):
        right = sum(pick(question.wrong + (question.right,), key=len) == question.right for question in ALL)
        assert right < 0.4 * len(ALL), pick


def plainly(model: nn.Module, tokenizer: object, question: Question) -> list[float]:
    """Log-likelihood a byte of each end, one whole sentence after the other through transformers' own forward."""
    found = []
    for choice in question.choices:
        parts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (question.begins, f" {choice}")]  # type: ignore[operator]
        ids = torch.tensor([[tokenizer.bos_token_id, *parts[0], *parts[1]]])  # type: ignore[attr-defined]
        with torch.inference_mode():
            nats = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1).gather(1, ids[0, 1:, None])
        found.append(float(nats[-len(parts[1]) :].double().sum()) / len(choice))
    return found


def test_equal_to_a_plain_loop_over_whole_sentences(folders: dict[str, Path]) -> None:
    opened = opening.load(str(folders["llama32"]))
    model, tokenizer = opened.model, opened.tokenizer
    asked = ALL[::5]
    told = answers(model, [sheet(tokenizer, question, 512) for question in asked])
    for question, answer in zip(asked, told, strict=True):
        scores = plainly(model, tokenizer, question)
        assert answer == question.choices[scores.index(max(scores))], question
    assert len({question.choices.index(answer) for question, answer in zip(asked, told, strict=True)}) == 4


def test_a_beginning_is_read_once_where_every_end_is_one_token(llama: Loaded) -> None:
    short = Question(kind="k", begins="the cat", right="x", wrong=("z", "q", "k"))
    one = sheet(llama.tokenizer, short, 512)
    assert {len(end) for end in one.ends} == {2} and len(one.rows) == 1  # the space, then the letter
    ids = [llama.tokenizer.bos_token_id, *llama.tokenizer("the cat x")["input_ids"]]
    assert [*one.before, *one.ends[0]] == ids and one.rows == [(*one.before, one.ends[0][0])]


def test_a_model_of_short_context_reads_the_last_tokens(llama: Loaded) -> None:
    whole, short = (sheet(llama.tokenizer, ALL[5], longest) for longest in (512, 12))
    assert max(map(len, whole.rows)) > 12 == max(map(len, short.rows)) and short.ends == whole.ends
    assert whole.before[-len(short.before) :] == short.before


class Flat(nn.Module):
    """Finds everything equally likely, or says nothing that is a number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(value))

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> object:
        logits = self.weight.expand(*input_ids.shape, 300)
        return type("Output", (), {"logits": logits})


def test_who_tells_nothing_apart_gets_nothing_right(llama: Loaded) -> None:
    same = Question(kind="k", begins="the cat", right="x", wrong=("z", "q", "k"))
    assert answers(Flat(0.0), [sheet(llama.tokenizer, same, 512)]) != ["x"]
    assert answers(Flat(math.nan), [sheet(llama.tokenizer, same, 512)]) == [None]


def test_asking_goes_on_where_it_stopped_and_forgets_when_told(llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "TOGETHER", 5)
    examiner, model = (
        Examiner(llama.model, llama.tokenizer, ALL[:12], 512),
        settle(compress(llama.model, Recipe(bits=2), Facts())),
    )
    steps = [examiner.ask("a", model) for _ in range(3)]
    assert [(len(found.answers), enough) for found, enough in steps] == [(5, False), (10, False), (12, True)]
    whole = steps[-1][0]
    assert examiner.ask("a", model) == (whole, True) and examiner.ask("a", model, 5)[0].answers == whole.answers[:5]
    assert (
        whole.answers
        == Examiner(llama.model, llama.tokenizer, ALL[:12], 512).ask("a", model, 5)[0].answers[:5] + whole.answers[5:]
    )
    examiner.forget("a")
    assert len(examiner.ask("a", model)[0].answers) == 5


def test_the_original_against_itself_flips_nothing_for_certain(llama: Loaded) -> None:
    found, _ = Examiner(llama.model, llama.tokenizer, ALL[:12], 512).ask("same", llama.model)
    assert found.flipped == [] and found.p == 1 and found.whole.right == found.whole.right_original
    assert (found.whole.difference.low, found.whole.difference.high) == (0, 0)


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (6, 0), (3, 3), (12, 2), (2, 12), (40, 20)])
def test_mcnemar_is_the_binomial_test(lost: int, gained: int) -> None:
    wanted = stats.binomtest(lost, lost + gained, 0.5).pvalue if lost + gained else 1.0
    assert mcnemar(lost, gained) == pytest.approx(wanted)


def test_counts_and_kinds() -> None:
    def one(kind: str, original: str, compressed: str) -> Answer:
        question = Question(kind=kind, begins="x", right="a", wrong=("b", "c", "d"))
        return Answer(question=question, original=original, compressed=compressed)

    given = [one("k", "a", "a"), one("k", "a", "b"), one("m", "b", "a"), one("m", "b", "c")]
    found = summarize(given, of=9)
    assert (found.whole.right.value, found.whole.right_original.value, found.chance) == (2, 2, 1.0)
    assert (found.whole.lost, found.whole.gained, found.complete) == (1, 1, False)
    assert [(part.kind, part.difference.value) for part in found.by_kind] == [("k", -0.5), ("m", 0.5)]
    low, high = found.whole.right.low, found.whole.right.high
    assert low is not None and high is not None and 0 < low < 2 < high < 4
