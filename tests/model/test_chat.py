"""A chat template is rendered as transformers does, in a process of its own; what cannot be used is switched off."""

import copy
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from explorer.model import chat, opening
from explorer.model.opening import Loaded
from explorer.model.writing import encode_prompt
from tests.model.test_opening import configure

PLAIN = "{{ bos_token }}user: {{ messages[0]['content'] }}\n{% if add_generation_prompt %}model:{% endif %}"
BROKEN = {
    "{{ raise_exception('A system message is needed.') }}": "fails (A system message is needed); ",
    "{{ messages[1]['content'] }}": "fails (list object has no element 1); ",
    "{% if %}": "fails (Expected an expression, got 'end of statement block'); ",
    "{{ ''.__class__.__mro__ }}{{ messages[0].content }}": "fails (",
    "hello": "leaves the prompt out; ",
    "{{ messages[0]['content'] | upper }}": "leaves the prompt out; ",
    "{{ 'a' * 100000 }}{{ messages[0]['content'] }}": "fails (it writes too much); ",
    "{{ 'a' * 4000000000 }}": "fails (it takes too much memory); ",
}


@pytest.fixture
def own(llama: Loaded) -> Any:
    return copy.deepcopy(llama.tokenizer)


def test_it_wraps_the_prompt_as_transformers_does(own: PreTrainedTokenizerFast) -> None:
    own.chat_template = PLAIN
    before, after = chat.wrapping(own)
    messages = [{"role": "user", "content": "the cat"}]
    whole = own.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert before + "the cat" + after == whole == "<s>user: the cat\nmodel:"
    assert chat.try_out(own) == "" and own.chat_template == PLAIN


@pytest.mark.parametrize("template", BROKEN)
def test_one_that_cannot_be_used_is_switched_off(own: PreTrainedTokenizerFast, template: str) -> None:
    own.chat_template = template
    with pytest.raises(ValueError, match="switch the chat template off") as found:
        encode_prompt(own, "cat", chat=True, limit=99)
    words = chat.try_out(own)
    assert BROKEN[template] in words and words.endswith("prompts are given to it as they are.")
    assert "switch the chat" in str(found.value) and len(words.splitlines()) == 1
    assert own.chat_template is None
    assert own.decode(encode_prompt(own, "cat", chat=True, limit=99)[0]) == "cat"


def test_one_that_does_not_end_is_ended(own: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    loops = "".join(f"{{% for {letter} in range(99999) %}}" for letter in "abcd") + "{% endfor %}" * 4
    own.chat_template = loops
    started = time.perf_counter()
    assert "takes too long" in chat.try_out(own)
    assert time.perf_counter() - started < 30
    monkeypatch.setattr(chat, "PATIENCE", 0.05)  # where the system has no limits
    own.chat_template = loops + " "
    assert "does not come to an end" in chat.try_out(own)


def test_several_templates_without_a_default_are_none(own: PreTrainedTokenizerFast) -> None:
    own.chat_template = {"tool_use": PLAIN, "rag": PLAIN}  # type: ignore[assignment]
    assert "multiple chat templates" in chat.try_out(own)


def test_a_model_opens_without_a_template_that_fails(copy: Path) -> None:
    configure(copy, "tokenizer_config.json", chat_template="{{ raise_exception('no') }}")
    loaded = opening.load(str(copy))
    assert loaded.tokenizer.chat_template is None
    assert loaded.note == "This model's chat template fails (no); prompts are given to it as they are."
    configure(copy, "tokenizer_config.json", chat_template=PLAIN)
    assert opening.load(str(copy)).note == ""


def test_it_is_rendered_once(own: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    own.chat_template = PLAIN
    chat.wrapping(own)
    monkeypatch.setattr(chat.subprocess, "run", lambda *_, **__: pytest.fail("again"))
    assert chat.wrapping(own)[0] == "<s>user: "
