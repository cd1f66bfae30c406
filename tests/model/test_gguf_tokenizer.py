"""What becomes of texts: how they are cut, what is put in front, and what ends an answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from transformers import PreTrainedTokenizerFast

from explorer.model import gguf_tokenizer, opening, writing
from explorer.model.gguf_header import Header
from tests.model import ggufs

Kept = Callable[..., Any]
PIECES = ["▁", "a", "c", "t", "h", "e", "at", "▁c", "▁cat", "th", "▁th", "▁the", "the"]


@pytest.fixture
def kept(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Kept:
    """What a file opens as, by the real path; `more` are its values."""

    def kept(family: str = "llama", **more: Any) -> opening.Loaded:
        ggufs.write(tmp_path / "model.gguf", family, ggufs.tiny(family), tokenizer, **more)
        return opening.load(str(tmp_path / "model.gguf"))

    return kept


@pytest.fixture
def sentencepiece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files with a vocabulary of pieces, as of Llama 2."""

    def add(writer: gguf.GGUFWriter, _: Any, more: dict[str, Any]) -> None:
        tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES]
        tokens += [f"piece{i}" for i in range(300 - len(tokens))]
        writer.add_tokenizer_model("llama")
        writer.add_token_list(tokens)
        writer.add_token_scores([-float(i) for i in range(300)])
        writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * 41)
        for key, value in ({"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2} | more).items():
            ggufs._add(writer, key, value)

    monkeypatch.setattr(ggufs, "_add_tokens", add)


def pieces(loaded: Any, text: str) -> list[str]:
    """As the text is cut, before anything is merged."""
    cut = loaded.tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    return [piece.replace("Ġ", " ").replace("Ċ", "\n") for piece, _ in cut]


@pytest.mark.parametrize("family", ["llama", "qwen2", "starcoder2", "gpt2"])
@pytest.mark.parametrize(
    "name, text, cut",
    [
        ("smollm", "in 1234 It's", ["in", " ", "1", "2", "3", "4", " It", "'s"]),
        ("gpt-2", "in 1234 It's", ["in", " 1234", " It", "'s"]),
        ("llama-bpe", "in 12345 IT'S", ["in", " ", "123", "45", " IT", "'S"]),
        ("qwen2", "in 1234 IT'S", ["in", " ", "1", "2", "3", "4", " IT", "'S"]),
        ("falcon", "a+b 12345", ["a", "+", "b", " ", "123", "45"]),
        ("default", "a+b 12345", ["a", "+", "b", " ", "123", "45"]),
        ("tekken", "helloWorld 12", ["hello", "World", " ", "1", "2"]),
        ("deepseek-v3", "in 12345 x", ["in", " ", "123", "45", " x"]),
    ],
)
def test_a_text_is_cut_as_the_file_says(kept: Kept, family: str, name: str, text: str, cut: list[str]) -> None:
    loaded = kept(family, tokenizer__ggml__pre=name)
    assert pieces(loaded, text) == cut
    assert loaded.tokenizer.decode(loaded.tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_a_file_that_does_not_say_is_cut_as_llama_cpp_cuts_it(kept: Kept) -> None:
    assert pieces(kept(tokenizer__ggml__pre=None), "a+b 12345") == ["a", "+", "b", " ", "123", "45"]


def test_an_unknown_way_to_cut_is_named(kept: Kept) -> None:
    assert "its pre-tokenizer marzipan is not known here" in kept(tokenizer__ggml__pre="marzipan").note


def test_every_name_has_one_way_to_cut() -> None:
    names = [name for names in gguf_tokenizer.CUTS.values() for name in names.split()]
    assert len(names) == len(set(names)) == len(gguf_tokenizer.BY_NAME)


@pytest.mark.parametrize(
    "says, first",
    [
        ({}, False),
        ({"tokenizer__ggml__add_bos_token": True}, True),
        ({"tokenizer__ggml__pre": "llama-bpe"}, True),
        ({"tokenizer__ggml__pre": "llama-bpe", "tokenizer__ggml__add_bos_token": False}, False),
    ],
)
def test_a_prompt_begins_with_the_first_token_where_the_file_says_so(
    kept: Kept, says: dict[str, Any], first: bool
) -> None:
    loaded = kept(**says)
    ids = writing.prompt_ids(loaded.model, loaded.tokenizer, "the cat", chat=False)
    assert (int(ids[0, 0]) == 0) is first


@pytest.mark.usefixtures("sentencepiece")
@pytest.mark.parametrize("family", ["llama", "qwen2", "nemotron", "phi3"])
def test_a_vocabulary_of_pieces_puts_a_space_in_front_unless_told_otherwise(kept: Kept, family: str) -> None:
    for says, begin in (({}, "▁"), ({"tokenizer__ggml__add_space_prefix": False}, "")):
        tokenizer = kept(family, **says).tokenizer
        for text in ("the cat", " the cat"):
            ids = tokenizer(text).input_ids
            assert ids[0] == 1
            assert "".join(tokenizer.convert_ids_to_tokens(ids[1:])) == begin + text.replace(" ", "▁")
        assert tokenizer.decode(tokenizer("the cat").input_ids, skip_special_tokens=True) == "the cat"


def test_all_tokens_that_end_an_answer_are_kept(kept: Kept) -> None:
    ends = {"tokenizer__ggml__eot_token_id": 7, "tokenizer__ggml__eom_token_id": 9}
    loaded = kept(**ends)
    assert writing._end_tokens(loaded.model, loaded.tokenizer) == {1, 7, 9}
    assert loaded.model.generation_config.eos_token_id == [1, 7, 9]


def test_ids_beyond_the_vocabulary_end_nothing(kept: Kept) -> None:
    loaded = kept(tokenizer__ggml__eot_token_id=99_999)
    assert writing._end_tokens(loaded.model, loaded.tokenizer) == {1}


def test_a_control_token_that_is_called_so_ends_an_answer(kept: Kept, tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(kept().tokenizer) == 300  # and no <|endoftext|> of transformers' own behind them
    called = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|im_end|>")
    header = Header(file=Path(), name="", architecture="", values={}, tensors={}, values_end=0, data_start=0)
    assert gguf_tokenizer.end_tokens(called, header) == [called.eos_token_id]
