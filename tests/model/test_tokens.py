"""One answer to what stands in front of a text; no token without a row."""

import copy as copying
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers.processors import TemplateProcessing

from explorer.measure import quality
from explorer.model import opening, teach
from explorer.model.calibrating import windows_of
from explorer.model.opening import Loaded
from explorer.model.tokens import front
from explorer.model.writing import encode_prompt
from tests.model.test_opening import change, configure, rejected

TEXTS = {"a": ["the cat sat on the mat and the dog ran to the river " * 8]}


def adding(llama: Loaded, single: str) -> Any:
    """A tokenizer whose post-processor puts tokens around every text."""
    tokenizer = copying.deepcopy(llama.tokenizer)
    tokens = [("<s>", 0), ("</s>", 1)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=tokens)
    return tokenizer


@pytest.mark.parametrize(
    "single, added", [("<s> $A", [0]), ("</s> <s> $A", [1, 0]), ("$A </s>", []), ("<s> $A </s>", [0])]
)
def test_it_is_what_the_post_processor_adds(llama: Loaded, single: str, added: list[int]) -> None:
    assert front(adding(llama, single)) == added
    assert front(adding(llama, single), always=True) == (added or [0])


def test_pieces_of_texts_begin_somewhere_and_prompts_need_not(llama: Loaded) -> None:
    assert front(llama.tokenizer) == [] and front(llama.tokenizer, always=True) == [0]
    bare = copying.deepcopy(llama.tokenizer)
    bare.bos_token = None
    assert front(bare, always=True) == []


def test_prompts_windows_passages_and_lessons_begin_alike(llama: Loaded) -> None:
    tokenizer = adding(llama, "</s> <s> $A")
    starts = [
        encode_prompt(tokenizer, "the cat", chat=False, limit=99)[0],
        windows_of(tokenizer, TEXTS, tokens=60, length=30)[0][0],
        quality.passages(tokenizer, TEXTS, longest=30)[0].ids[0],
        torch.tensor(teach._openings(tokenizer, TEXTS, 20)[0]),
    ]
    assert all(ids[:2].tolist() == [1, 0] and ids[2] > 1 for ids in starts)


def test_a_chat_begins_with_what_its_template_writes(llama: Loaded) -> None:
    tokenizer = adding(llama, "<s> $A")
    tokenizer.chat_template = "<s>{{ messages[0]['content'] }}"
    assert encode_prompt(tokenizer, "the cat", chat=True, limit=99)[0].tolist().count(0) == 1


def grown(folder: Path, token: str, special: bool) -> None:
    """A token more than the embedding has rows."""
    tokenizer = opening.open_tokenizer(folder)
    tokenizer.add_tokens([token], special_tokens=special)
    tokenizer.save_pretrained(folder)


def test_a_token_that_a_prompt_reaches_needs_a_row(copy: Path) -> None:
    grown(copy, "<new>", special=False)
    assert rejected(copy) == "The tokenizer knows 301 tokens and the model 300: it could not read '<new>'."


def test_a_control_token_without_a_row_is_fine_where_nothing_writes_it(copy: Path) -> None:
    grown(copy, "<new>", special=True)
    loaded = opening.load(str(copy))
    assert max(encode_prompt(loaded.tokenizer, "a <new> b", chat=False, limit=99)[0]) < 300
    configure(copy, "tokenizer_config.json", chat_template="<new>{{ messages[0]['content'] }}")
    assert "could not read '<new>'" in rejected(copy)


def test_an_embedding_that_is_too_small_is_seen_at_the_door(copy: Path) -> None:
    table = load_file(copy / "model.safetensors")["model.embed_tokens.weight"]
    change(copy, **{"model.embed_tokens.weight": table[:280].clone()})
    configure(copy, vocab_size=280)
    assert "knows 300 tokens and the model 280" in rejected(copy)


def test_rows_that_no_token_has_are_fine(copy: Path) -> None:
    table = load_file(copy / "model.safetensors")["model.embed_tokens.weight"]
    change(copy, **{"model.embed_tokens.weight": torch.cat([table, table[:20]])})
    configure(copy, vocab_size=320)
    assert opening.load(str(copy)).note == ""
