import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from explorer.measure import bytewise
from explorer.model import opening
from tests.conftest import TEXTS


def test_pieces_hold_every_byte_once() -> None:
    texts = {"story": ["one two three four five six seven", "ein zwei drei"], "other": ["日本語のテキスト" * 9, ""]}
    found = bytewise.pieces(texts, 10**9, longest=20)
    plain = [text for group in texts.values() for text in group]
    for number, text in enumerate(plain):
        mine = [piece.words for piece in found if piece.text == number]
        assert all(len(words.encode()) <= 20 for words in mine)
        assert set(mine) <= set(bytewise._cut(text, 20)) and "".join(bytewise._cut(text, 20)) == text
    assert all(0 < piece.given < len(piece.words) for piece in found)


def test_only_as_much_is_read_as_is_asked_for() -> None:
    few = bytewise.pieces(TEXTS, 30, longest=20)
    assert 30 <= sum(piece.counted for piece in few) < 60
    assert {piece.text for piece in few[:2]} == {0, 2}  # kinds in turn


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox"])
def test_equal_to_a_plain_loop_over_the_loss(folders: dict[str, Path], name: str) -> None:
    """One prefix after another through transformers' own loss, for tokens that end behind the first word."""
    model = AutoModelForCausalLM.from_pretrained(folders[name], dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folders[name])
    found = bytewise.pieces(TEXTS, 10**9, longest=60)
    ours = bytewise.bits_per_byte(found, [bytewise.nats_of(model, tokenizer, piece) for piece in found]).value
    nats, count = 0.0, 0
    for piece in found:
        ids = tokenizer(piece.words)["input_ids"]
        ends = [len(tokenizer.decode(ids[: i + 1])) for i in range(len(ids))]
        for i, (_, end) in enumerate(pairwise(ends), 1):
            if end > piece.given:
                labels = torch.tensor([[-100] * i + ids[i : i + 1]])
                with torch.no_grad():
                    nats += float(model(torch.tensor([ids[: i + 1]]), labels=labels).loss)
        count += len(piece.words[piece.given :].encode())
    assert ours == pytest.approx(nats / math.log(2) / count, rel=1e-4)


def unigrams() -> PreTrainedTokenizerFast:
    """Of another kind than the other models': unigrams, ▁ for a space, bytes for what it does not know."""
    learned = Tokenizer(models.Unigram())
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    plain = [text for group in TEXTS.values() for text in group]
    learned.train_from_iterator(plain, trainers.UnigramTrainer(vocab_size=90, show_progress=False))
    known = {word: -6.0 - len(word) / 9 for word in learned.get_vocab()} | {f"<0x{i:02X}>": -12.0 for i in range(256)}
    core = Tokenizer(models.Unigram([("<unk>", 0.0), ("<s>", 0.0), *sorted(known.items())], 0, byte_fallback=True))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", unk_token="<unk>")


def test_two_tokenizers_on_one_text(folders: dict[str, Path]) -> None:
    """Each byte of what is counted belongs to one token; a plain loop adds up what transformers' loss says of those."""
    ours, theirs = AutoTokenizer.from_pretrained(folders["llama"]), unigrams()
    small = LlamaConfig(vocab_size=len(theirs), hidden_size=32, intermediate_size=48, num_hidden_layers=1)
    small.num_attention_heads = small.num_key_value_heads = 2
    both = [
        (AutoModelForCausalLM.from_pretrained(folders["llama"], dtype=torch.float32).eval(), ours),
        (LlamaForCausalLM(small).eval(), theirs),
    ]
    found = bytewise.pieces({**TEXTS, "other": ["Ça va — et le café ? 日本語のテキスト costs 5 €"]}, 10**9, longest=60)
    nats = [[bytewise.nats_of(*each, piece) for piece in found] for each in both]
    expected = []
    for model, tokenizer in both:
        total = 0.0
        for piece in found:
            ids, end = tokenizer(piece.words)["input_ids"], 0
            for i, token in enumerate(tokenizer.convert_ids_to_tokens(ids)):
                end += _bytes(token) - (tokenizer is theirs and i == 1)  # the ▁ put before a text is not in it
                if i and end > len(piece.words[: piece.given].encode()):
                    labels = torch.tensor([[-100] * i + [ids[i]]])
                    with torch.no_grad():
                        total += float(model(torch.tensor([ids[: i + 1]]), labels=labels).loss)
            assert end == len(piece.words.encode())
        expected.append(total / math.log(2) / sum(piece.counted for piece in found))
    for mine, plain in zip(nats, expected, strict=True):
        assert bytewise.bits_per_byte(found, mine).value == pytest.approx(plain, rel=1e-4)
    assert bytewise.difference(found, *nats).value == pytest.approx(expected[0] - expected[1], rel=1e-4)


def _bytes(token: str) -> int:
    """How many bytes of the text a token of either tokenizer is: all they know as a whole is ASCII, or ▁."""
    return 0 if token == "<s>" else 1 if token.startswith("<0x") else len(token)


def test_a_difference_is_that_of_the_two_and_paired() -> None:
    found = bytewise.pieces(TEXTS, 10**9, longest=30)
    one = [float(i % 5 + 3) for i in range(len(found))]
    other = [nats - 0.5 * piece.counted * math.log(2) for nats, piece in zip(one, found, strict=True)]
    apart = bytewise.difference(found, one, other)
    both = [bytewise.bits_per_byte(found, nats).value for nats in (one, other)]
    assert apart.value == pytest.approx(0.5) == both[0] - both[1]
    assert apart.low == pytest.approx(0.5) == apart.high  # every byte differs by as much


def test_what_is_no_number_says_so(folders: dict[str, Path]) -> None:
    loaded = opening.load(str(folders["llama32"]))
    next(loaded.model.parameters()).data.fill_(math.nan)
    found = bytewise.pieces(TEXTS, 40)
    nats = [bytewise.nats_of(loaded.model, loaded.tokenizer, piece) for piece in found]
    assert nats == [math.inf] * len(found)
    assert math.isnan(bytewise.bits_per_byte(found, nats).value)
    assert math.isnan(bytewise.difference(found, nats, nats).value)


def test_a_tokenizer_that_does_not_tell_its_bytes(folders: dict[str, Path]) -> None:
    loaded = opening.load(str(folders["llama32"]))
    with pytest.raises(ValueError, match="bits per byte cannot be counted"):
        bytewise.nats_of(loaded.model, object(), bytewise.pieces(TEXTS, 10)[0])
