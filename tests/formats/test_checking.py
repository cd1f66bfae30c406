"""A file against its variant, by numbers that are known."""

import pytest
import torch
from torch import Tensor

from explorer.formats.checking import MOST, NEW, TEXTS, Found, compared, right_of
from explorer.measure.quality import Passage
from explorer.model.opening import Loaded
from explorer.model.preflight import ModelRejected


def test_the_same_predictions_are_no_distance(llama: Loaded, ids: Tensor) -> None:
    right = right_of(llama.model, [Passage(kind="a", ids=ids)])
    tokens = tuple(llama.tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS)
    marked = [f"before{token}behind {token}\n" for token in ("<s>", "</s>")]
    tokens += tuple(llama.tokenizer(text, add_special_tokens=False)["input_ids"] for text in marked)
    greedy = (*right.greedy[:5], right.greedy[5] + 1, *right.greedy[6:])
    found = Found(opened_by="x", logits=right.logits, greedy=greedy, tokens=(*tokens[:-1], [1, 2, 3]))
    check = compared(right, found, llama.tokenizer, 12)
    assert check.kl.value == 0 and check.bytes.value == 12 and (check.greedy.value, check.greedy.n) == (5, NEW)
    assert check.texts is not None and check.texts.value == len(tokens) - 1


@pytest.mark.parametrize("broken", [False, True])
def test_something_else_is_refused(llama: Loaded, ids: Tensor, broken: bool) -> None:
    right = right_of(llama.model, [Passage(kind="a", ids=ids)])
    other = tuple(each.roll(1, -1) if not broken else each * torch.nan for each in right.logits)
    with pytest.raises(ModelRejected, match="something else"):
        compared(right, Found(opened_by="x", logits=other, greedy=right.greedy), llama.tokenizer, 1)
    assert MOST < 0.1
