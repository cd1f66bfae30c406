"""What Ollama is told."""

from explorer.formats.modelfile import modelfile
from tests.conftest import byte_tokenizer


def test_template_and_stop_words() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "<s>{{ messages[0]['content'] }}</s>"
    lines = modelfile("small.gguf", tokenizer, [1]).splitlines()
    assert lines[:3] == ["FROM ./small.gguf", 'TEMPLATE """<s>{{ .Prompt }}</s>"""', 'PARAMETER stop "</s>"']


def test_a_template_that_cannot_be_told_is_left_out() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ '{{' }}{{ messages[0]['content'] }}"
    assert "TEMPLATE" not in modelfile("small.gguf", tokenizer, [])
