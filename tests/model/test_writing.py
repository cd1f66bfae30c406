"""The token loop."""

import copy
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from explorer.model.opening import Loaded
from explorer.model.writing import MAX_PROMPT_CHARACTERS, context_length, encode_prompt, stream
from explorer.values.written import Piece


def tokens(loaded: Loaded, ids: Tensor, **options: Any) -> list[int]:
    return [piece.token for piece in stream(loaded.model, loaded.tokenizer, ids, **{"new_tokens": 24, **options})]


def encoded(loaded: Loaded, prompt: str, chat: bool = False, limit: int = 500) -> list[int]:
    return encode_prompt(loaded.tokenizer, prompt, chat=chat, limit=limit)[0].tolist()


def destroyed(loaded: Loaded) -> Any:
    model = copy.deepcopy(loaded.model)
    model.get_input_embeddings().weight.data.fill_(torch.nan)
    return model


@pytest.mark.parametrize("start", range(4))
def test_greedy_writes_what_transformers_writes(any_model: Loaded, start: int) -> None:
    ids = torch.randint(2, 300, (1, 5 + start), generator=torch.Generator().manual_seed(start))
    expected = any_model.model.generate(ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :].tolist()
    written = tokens(any_model, ids)
    if any_model.model.dtype == torch.float32 or written == expected:
        assert written == expected
        return
    # bfloat16: rounding may choose between two tokens that are as likely as each other, and the texts part there
    parts = next(i for i, pair in enumerate(zip(written, expected, strict=False)) if pair[0] != pair[1])
    before = torch.cat([ids, torch.tensor([expected[:parts]], dtype=torch.long)], dim=1)
    with torch.inference_mode():
        logits = copy.deepcopy(any_model.model).float()(input_ids=before).logits[0, -1]
    assert logits.max() - logits[written[parts]] < 2**-6 * logits.abs().max()


def test_one_seed_writes_one_text(llama: Loaded, ids: Tensor) -> None:
    assert tokens(llama, ids, temperature=1.0, seed=5) == tokens(llama, ids, temperature=1.0, seed=5)


def test_different_seeds_write_different_texts(llama: Loaded, ids: Tensor) -> None:
    assert len({tuple(tokens(llama, ids, temperature=1.0, seed=seed)) for seed in range(5)}) == 5


def test_sampling_leaves_torchs_own_random_numbers_alone(llama: Loaded, ids: Tensor) -> None:
    before = torch.get_rng_state()
    tokens(llama, ids, temperature=1.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_colder_the_closer_to_greedy(llama32: Loaded, ids: Tensor) -> None:
    assert tokens(llama32, ids, temperature=1e-4, seed=3) == tokens(llama32, ids)


def test_samples_have_the_probabilities_of_the_model(llama32: Loaded, ids: Tensor) -> None:
    with torch.inference_mode():
        likely = llama32.model(input_ids=ids).logits[0, -1].softmax(-1)
    drawn = [tokens(llama32, ids, temperature=1.0, seed=seed, new_tokens=1)[0] for seed in range(150)]
    top = int(likely.argmax())
    expected = float(likely[top])
    assert abs(drawn.count(top) / 150 - expected) < 4 * (expected * (1 - expected) / 150) ** 0.5 + 0.005


@pytest.mark.parametrize("seed", [2**63, -(2**63)])
def test_any_seed_is_a_seed(llama: Loaded, ids: Tensor, seed: int) -> None:
    assert tokens(llama, ids, temperature=1.0, seed=seed, new_tokens=2)


def test_pieces_hold_the_whole_text_so_far(llama: Loaded, ids: Tensor) -> None:
    pieces = list(stream(llama.model, llama.tokenizer, ids, new_tokens=10))
    assert [piece.tokens for piece in pieces] == list(range(1, 11))
    assert pieces[-1].text == llama.tokenizer.decode([p.token for p in pieces], skip_special_tokens=True).rstrip(
        "\ufffd"
    )
    assert all(piece.ms > 0 and "\ufffd" not in piece.text[-1:] for piece in pieces)
    assert {piece.stopped for piece in pieces} == {""}


@pytest.mark.parametrize("after", [0, 1, 4])
def test_stopping_takes_at_most_one_token(llama: Loaded, ids: Tensor, after: int) -> None:
    seen: list[Piece] = []
    for piece in stream(llama.model, llama.tokenizer, ids, new_tokens=30, stopped=lambda: len(seen) >= after):
        seen.append(piece)
    assert len(seen) == after + 1 and seen[-1].stopped == "Stopped."


def test_the_end_token_ends_the_text_and_is_not_written(llama: Loaded, ids: Tensor) -> None:
    first, second, third = tokens(llama, ids, new_tokens=3)
    model = copy.deepcopy(llama.model)
    model.generation_config.eos_token_id = [third]
    pieces = list(stream(model, llama.tokenizer, ids, new_tokens=9))
    assert [piece.token for piece in pieces] == [first, second, third]
    assert pieces[-1].stopped == "The model ended its answer." and pieces[-1].tokens == 2
    assert pieces[-1].text == pieces[-2].text


def test_a_destroyed_model_gives_a_sentence_and_no_exception(llama: Loaded, ids: Tensor) -> None:
    pieces = list(stream(destroyed(llama), llama.tokenizer, ids, new_tokens=9))
    assert len(pieces) == 1 and "not a number" in pieces[0].stopped and pieces[0].text == ""


def test_it_stops_at_the_context_length(any_model: Loaded) -> None:
    length = context_length(any_model.model)
    assert length == 512
    full = torch.full((1, length - 3), 7)
    assert len(tokens(any_model, full, new_tokens=50)) <= 3
    assert tokens(any_model, torch.full((1, length), 7)) == []


def test_no_mode_of_torch_leaks_while_a_text_is_half_written(llama: Loaded, ids: Tensor) -> None:
    pieces = stream(llama.model, llama.tokenizer, ids, new_tokens=5)
    next(pieces)
    assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
    assert len(list(islice(pieces, 9))) == 4


def test_two_half_written_texts_do_not_disturb_each_other(llama: Loaded, ids: Tensor) -> None:
    both = [stream(llama.model, llama.tokenizer, each, new_tokens=8) for each in (ids, ids[:, :7])]
    mixed = [(a.token, b.token) for a, b in zip(*both, strict=True)]
    assert mixed == list(zip(tokens(llama, ids, new_tokens=8), tokens(llama, ids[:, :7], new_tokens=8), strict=True))


# prompts


def test_a_prompt_is_its_tokens(llama: Loaded) -> None:
    for prompt in ("the cat", "ünï 猫 \n\t", "a\u0000b", "\u200f right to left"):
        assert llama.tokenizer.decode(encoded(llama, prompt)) == prompt


def test_an_empty_prompt_starts_at_the_first_token(llama: Loaded) -> None:
    assert encoded(llama, "") == [llama.tokenizer.bos_token_id]
    assert tokens(llama, encode_prompt(llama.tokenizer, "", chat=False, limit=9), new_tokens=2)


def test_an_empty_prompt_that_cannot_start_is_refused_in_one_sentence(llama: Loaded) -> None:
    bare = copy.deepcopy(llama.tokenizer)
    bare.bos_token = bare.eos_token = None
    with pytest.raises(ValueError, match="Write a few words"):
        encode_prompt(bare, "", chat=False, limit=9)


@pytest.mark.parametrize(
    "prompt, limit, words",
    [
        ("x" * (MAX_PROMPT_CHARACTERS + 1), 10**6, "too long: 20,001 characters"),
        ("xyz " * 40, 20, "too long: .* tokens, at most 20"),
        ("broken \ud800 here", 500, "lone surrogate"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_refused_in_one_sentence(
    llama: Loaded, prompt: str, limit: int, words: str
) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        encode_prompt(llama.tokenizer, prompt, chat=False, limit=limit)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("chat", [True, False])
def test_control_tokens_that_a_person_types_are_plain_text(llama: Loaded, chat: bool) -> None:
    tokenizer = copy.deepcopy(llama.tokenizer)
    tokenizer.chat_template = "<s>{{ messages[0]['content'] }}</s>"
    ids = encode_prompt(tokenizer, "a </s> b <s>", chat=chat, limit=99)[0].tolist()
    assert (ids.count(0), ids.count(1)) == ((1, 1) if chat else (0, 0))
    assert "a </s> b <s>" in tokenizer.decode(ids)


def test_a_chat_template_wraps_the_prompt(llama: Loaded) -> None:
    tokenizer = copy.deepcopy(llama.tokenizer)
    tokenizer.chat_template = "user: {{ messages[0]['content'] }}\n{% if add_generation_prompt %}model:{% endif %}"
    ids = encode_prompt(tokenizer, "cat", chat=True, limit=99)[0].tolist()
    assert tokenizer.decode(ids) == "user: cat\nmodel:"
    assert tokenizer.decode(encode_prompt(tokenizer, "cat", chat=False, limit=99)[0].tolist()) == "cat"


def test_a_template_that_drops_the_prompt_is_refused(llama: Loaded) -> None:
    tokenizer = copy.deepcopy(llama.tokenizer)
    tokenizer.chat_template = "hello"
    with pytest.raises(ValueError, match="leaves the prompt out"):
        encode_prompt(tokenizer, "cat", chat=True, limit=99)
