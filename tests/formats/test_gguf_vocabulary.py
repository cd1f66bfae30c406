"""Tokens, their kinds, and how texts are cut."""

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from explorer.formats.gguf_vocabulary import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    pre_tokenizer_of,
    vocabulary,
)
from explorer.model.gguf_tokenizer import BY_NAME, CUTS, WHOLE_FIRST, cut
from tests.conftest import byte_tokenizer


@pytest.mark.parametrize("cuts", CUTS, ids=lambda cuts: CUTS[cuts].split()[0])
def test_each_way_of_cutting_is_told_from_all_others(cuts: tuple[str, ...]) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = cut(cuts)
    names = CUTS[cuts].split()
    if all(name in WHOLE_FIRST for name in names):
        model = tokenizer.backend_tokenizer.model
        model.ignore_merges = True
        tokenizer.backend_tokenizer.model = model
    assert pre_tokenizer_of(tokenizer) in names


def test_whole_tokens_first_is_another_name() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = cut(BY_NAME["llama-bpe"])
    assert pre_tokenizer_of(tokenizer) == "dbrx"
    model = tokenizer.backend_tokenizer.model
    model.ignore_merges = True
    tokenizer.backend_tokenizer.model = model
    assert pre_tokenizer_of(tokenizer) == "llama-bpe"


def test_a_way_that_llama_cpp_lacks_is_refused() -> None:
    tokenizer = byte_tokenizer()
    strange = pre_tokenizers.Split(Regex("[aeiou]"), "isolated")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([strange, pre_tokenizers.ByteLevel(False)])
    with pytest.raises(ValueError, match="how this tokenizer cuts texts"):
        pre_tokenizer_of(tokenizer)


def test_bytes_and_their_merges() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["▁mine"])
    tokenizer.chat_template = "{{ messages }}"
    said = vocabulary(tokenizer, 310, [1, 0, 5])
    assert said["tokenizer.ggml.model"] == "gpt2" and said["tokenizer.ggml.pre"] == "gpt-2"
    texts, kinds = said["tokenizer.ggml.tokens"], said["tokenizer.ggml.token_type"]
    assert len(texts) == len(kinds) == 310 and texts[309] == "[PAD309]" and kinds[309] == UNUSED
    assert kinds[:3] == [CONTROL, CONTROL, NORMAL] and texts[300] == " mine" and kinds[300] == USER_DEFINED
    assert said["tokenizer.ggml.merges"][0].count(" ") == 1 and said["tokenizer.chat_template"] == "{{ messages }}"
    ends = [said[f"tokenizer.ggml.{word}_token_id"] for word in ("eos", "eot", "eom")]
    assert ends == [1, 0, 5] and said["tokenizer.ggml.add_bos_token"] is False


def pieces(merges: list[tuple[str, str]]) -> PreTrainedTokenizerFast:
    """As of Llama 2: letters, a space as ▁, bytes for the rest."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abc"]
    words += [one + other for one, other in merges if one + other not in words]
    vocab = {word: place for place, word in enumerate(dict.fromkeys(words))}
    core = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def test_pieces_and_their_scores() -> None:
    tokenizer = pieces([("a", "b"), ("▁", "a"), ("▁a", "b"), ("▁", "ab")])
    said = vocabulary(tokenizer, len(tokenizer), [2])
    place = {text: at for at, text in enumerate(said["tokenizer.ggml.tokens"])}
    scores, kinds = said["tokenizer.ggml.scores"], said["tokenizer.ggml.token_type"]
    assert said["tokenizer.ggml.model"] == "llama" and said["tokenizer.ggml.add_space_prefix"] is True
    assert scores[place["ab"]] > scores[place["▁a"]] > scores[place["▁ab"]] > scores[place["c"]]
    assert kinds[:3] == [UNKNOWN, CONTROL, CONTROL] and kinds[place["<0x0A>"]] == BYTE and kinds[place["ab"]] == NORMAL


def test_an_order_of_merges_that_scores_cannot_tell_is_refused() -> None:
    with pytest.raises(ValueError, match="order that llama.cpp cannot follow"):
        vocabulary(pieces([("a", "b"), ("▁", "ab"), ("▁", "a"), ("▁a", "b")]), 266, [2])


def test_other_kinds_of_tokenizers_are_refused() -> None:
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(ValueError, match="WordLevel"):
        vocabulary(words, 1, [])
