"""Which tokens stand in front of a text, and whether a model has a row for every token that a text can become."""

from typing import Any

from explorer.model.chat import wrapping
from explorer.model.preflight import ModelRejected


def front(tokenizer: Any, always: bool = False) -> list[int]:
    """What the tokenizer itself puts in front of every text. `always`: the beginning-of-text token where that is
    nothing, for pieces of longer texts, which have to begin somewhere."""
    bos = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    plain, whole = (tokenizer("a", add_special_tokens=added)["input_ids"] for added in (False, True))
    places = range(len(whole) - len(plain) + 1)
    added: list[int] = next((whole[:at] for at in places if whole[at : at + len(plain)] == plain), [])
    if not added and (always or getattr(tokenizer, "add_bos_token", False)):
        return bos
    return added


def check_rows(tokenizer: Any, rows: int) -> None:
    """Refuse a tokenizer from which a prompt gets tokens that the embedding has no row for. ModelRejected in one
    sentence. Control tokens are not read out of a prompt (see `encode_prompt`); what stands around it may hold them."""
    beyond = {place: token for token, place in tokenizer.get_vocab().items() if place >= rows}
    if not beyond:
        return
    control = {place for place, token in tokenizer.added_tokens_decoder.items() if token.special}
    around = set(front(tokenizer, always=True))
    if tokenizer.chat_template:
        before, after = wrapping(tokenizer)
        around |= {*tokenizer(before + after, add_special_tokens=False)["input_ids"]}
    reached = (beyond.keys() - control) | (beyond.keys() & around)
    if reached:
        token = beyond[min(reached)]
        sentence = f"The tokenizer knows {len(tokenizer):,} tokens and the model {rows:,}: it could not read {token!r}."
        raise ModelRejected("tokenizer", sentence)
