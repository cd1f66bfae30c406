"""A closer look at what a setting changed.

trace: the original's text for a prompt, read again by the compressed model: what it would have said at each word, how
far its prediction is from the original's there, and the null case, the original asked a second time.
inside: one matrix before and after.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from explorer.layers.targets import targets
from explorer.measure import quality
from explorer.measure.inside import look
from explorer.model.writing import prompt_ids, stream
from explorer.values.matrices import Inside
from explorer.values.prompt import Prompt
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.values.written import Guess, Place, Trace
from explorer.workbench.workbench import Workbench

GUESSES = 5


def trace(bench: Workbench, recipe: Recipe, prompt: Prompt) -> Iterator[int | Trace]:
    """Yields the tokens written so far, then the trace. ValueError where the original writes nothing."""
    model, tokenizer = bench.loaded.model, bench.loaded.tokenizer
    pieces = []
    for piece in bench.write(None, prompt):
        pieces.append(piece)
        yield piece.tokens
    written = [piece.token for piece in pieces if piece.token >= 0]
    if not written:
        raise ValueError("the original wrote nothing for this prompt.")
    ids = prompt_ids(model, tokenizer, prompt.text, chat=prompt.chat)
    how = {"new_tokens": prompt.new_tokens, "seed": prompt.seed, "temperature": prompt.temperature}
    again = ""
    for piece in bench.engine.steps(stream(model, tokenizer, ids, **how)):  # type: ignore[arg-type]
        again = piece.text
        yield piece.tokens
    compressed = bench.variant(recipe).model
    whole = quality.Passage(kind="", ids=torch.cat([ids, torch.tensor([written])], dim=1))
    first = ids.shape[1] - 1

    def logits(of: torch.nn.Module) -> Tensor:
        with torch.no_grad():
            return quality.logits_of(of, whole)[first:].float().log_softmax(-1)

    p, q = (bench.engine.step(lambda each=each: logits(each)) for each in (model, compressed))  # type: ignore[misc]
    words = _words(tokenizer, written)
    places = tuple(
        bench.engine.step(lambda: [_place(word, a, b, tokenizer) for word, a, b in zip(words, p, q, strict=True)])
    )
    apart = (p.argmax(1) != q.argmax(1)).nonzero().flatten().tolist()
    parts = apart[0] if apart else None
    yield Trace(recipe=recipe, places=places, parts=parts, text=pieces[-1].text, again=again)


def names(bench: Workbench) -> list[str]:
    """The matrices that can be looked into."""
    return [target.name for target in targets(bench.loaded.model) if not target.tied_to]


def inside(bench: Workbench, recipe: Recipe, name: str) -> Inside:
    """The matrix of this name before and after. ValueError where there is none, or parts of the model are out."""
    if recipe.structural or recipe.rotate:
        raise ValueError("matrices can be compared while nothing is taken out or rotated.")
    if name not in names(bench):
        raise ValueError("there is no such matrix.")
    built, model = bench.variants.unsettled(recipe).model, bench.loaded.model
    return bench.engine.step(lambda: look(name, model.get_submodule(name), built.get_submodule(name)))


def _words(tokenizer: Any, written: list[int]) -> list[str]:
    """What each token adds to the text; a character of several tokens stands at its last."""
    texts = [tokenizer.decode(written[:end]).rstrip("\ufffd") for end in range(len(written) + 1)]
    return [after[len(before) :] for before, after in pairwise(texts)]


def _place(word: str, p: Tensor, q: Tensor, tokenizer: Any) -> Place:
    """p, q: log probabilities of the next token, (vocabulary,)."""
    apart = float((p.exp() * (p - q)).sum().clamp(min=0))
    return Place(
        word=word,
        kl=Reading(value=apart, unit="nats", how="measured", n=1),
        original=_guesses(p, tokenizer),
        compressed=_guesses(q, tokenizer),
    )


def _guesses(log_probabilities: Tensor, tokenizer: Any) -> tuple[Guess, ...]:
    values, tokens = log_probabilities.exp().topk(min(GUESSES, len(log_probabilities)))
    shares: Sequence[float] = values.tolist()
    return tuple(
        Guess(word=tokenizer.decode([token]), share=Reading(value=share, unit="share", how="measured"))
        for token, share in zip(tokens.tolist(), shares, strict=True)
    )
