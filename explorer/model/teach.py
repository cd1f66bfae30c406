"""The original as a teacher: texts that it wrote itself beside the calibration texts, what it predicts on them and what
it thinks on the way, worked out once a model and kept on disk, so that no teacher runs while a student learns.

A model's own text is what its student must get right, whatever the model is for (Liu et al., LLM-QAT, arXiv 2305.17888,
§3.1). Half of what it writes goes on from the beginnings of given texts, half from the chat template alone, so that it
asks itself questions and answers them (Xu et al., Magpie, arXiv 2406.08464, §2).
"""

import copy
import json
import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from explorer.files import replacing
from explorer.layers import dense
from explorer.layers.linear import device_of, dtype_of
from explorer.layers.targets import blocks_of
from explorer.methods import distill
from explorer.model.calibrating import windows_of
from explorer.model.decode import Batch
from explorer.model.disk import save_tensors
from explorer.model.tokens import front
from explorer.model.writing import context_length, template

VERSION = "3"
TOP = 64  # likeliest tokens kept of each prediction
LENGTH = 256  # tokens of a window
GIVEN_TOKENS = 32768  # of the calibration texts, at most
WRITTEN = 16  # windows that the teacher writes in each of its two forms
OPENING = 12  # tokens of a given text that it goes on from
HELD_OUT = 6  # windows that nothing is learned from
BATCH = 4  # windows read at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Lessons:
    """Windows of text, ids (windows, length), and the teacher's predictions of all tokens but the first: the likeliest
    tokens (windows, length − 1, k) and their log-probabilities with that of all others (windows, length − 1, k + 1);
    the hidden states that these came from, see `hidden_states`, each (windows, length − 1, width) bfloat16."""

    ids: Tensor
    top: Tensor
    log_p: Tensor
    hidden: tuple[Tensor, ...] = ()

    @cached_property
    def held_out(self) -> list[int]:
        """Windows that nothing is learned from, spread evenly."""
        count = min(HELD_OUT, self.ids.shape[0] // 2)
        return [(2 * i + 1) * self.ids.shape[0] // (2 * count) for i in range(count)]

    @cached_property
    def learned(self) -> list[int]:
        return [i for i in range(self.ids.shape[0]) if i not in set(self.held_out)]

    def next_tokens(self) -> "Lessons":
        """The same text without the teacher: each next token has probability 1."""
        top = self.ids[:, 1:, None]
        certain = torch.tensor([0.0, distill.LOWEST]).expand(*top.shape[:2], 2)
        return Lessons(ids=self.ids, top=top, log_p=certain)


def trainable_dtype(model: nn.Module) -> torch.dtype:
    """The model's dtype where this machine multiplies in it; float32 where a CPU only emulates that."""
    first = next(model.parameters())
    slow = first.device.type == "cpu" and (dense.WIDENS or first.dtype == torch.float16)
    return torch.float32 if slow else first.dtype


def lessons(
    model: nn.Module, tokenizer: Any, texts: Mapping[str, Sequence[str]], folder: Path, name: str
) -> Generator[float, None, Lessons]:
    """What is kept in `folder` for the model of this name and these texts, or made anew; yields the share done."""
    about = [VERSION, TOP, LENGTH, GIVEN_TOKENS, WRITTEN, OPENING, {k: list(v) for k, v in texts.items()}]
    file = folder / f"{name}-{sha256(json.dumps(about).encode()).hexdigest()[:8]}.safetensors"
    found = _load(file)
    if found is None:
        found = yield from _made(model, tokenizer, texts)
        _save(found, file)
    return found


def _made(model: nn.Module, tokenizer: Any, texts: Mapping[str, Sequence[str]]) -> Generator[float, None, Lessons]:
    length = min(LENGTH, context_length(model))
    dtype = trainable_dtype(model)
    teacher = model if dtype_of(model) == dtype else copy.deepcopy(model).to(dtype)
    windows = [w for w in windows_of(tokenizer, texts, GIVEN_TOKENS, length) if w.shape[1] == length]
    openings = _openings(tokenizer, texts, min(OPENING, length // 2))
    starts = [torch.tensor([openings[i % len(openings)] for i in range(WRITTEN)])]
    chat = template(tokenizer)[0] if tokenizer.chat_template else []
    starts.append(torch.tensor([chat] * WRITTEN) if 0 < len(chat) < length // 2 else starts[0])
    reads = -(-(len(windows) + len(starts) * WRITTEN) // BATCH)
    steps, done = reads + sum(length - start.shape[1] for start in starts), 0
    noise = torch.Generator().manual_seed(0)
    for start in starts:
        for written in _write(teacher, start, length, noise):
            yield (done + written.shape[1] - start.shape[1]) / steps
        done += length - start.shape[1]
        windows.append(written)
    found: list[Lessons] = []
    for ids in torch.split(torch.cat(windows), BATCH):
        found.append(read(teacher, ids))
        done += 1
        yield done / steps
    return _joined(found)


@torch.inference_mode()
def read(teacher: nn.Module, ids: Tensor) -> Lessons:
    """What is learned from windows of ids (windows, length)."""
    with hidden_states(teacher) as hidden:
        logits: Tensor = teacher(input_ids=ids.to(device_of(teacher)), use_cache=False).logits[:, :-1]
    rows = torch.split(logits.flatten(0, 1), distill.ROWS)
    parts = zip(*(distill.likeliest(part, TOP) for part in rows), strict=True)
    top, log_p = (torch.cat(part).view(*logits.shape[:2], -1).cpu() for part in parts)
    kept = tuple(state[:, :-1].to("cpu", torch.bfloat16) for state in hidden)
    return Lessons(ids=ids, top=top.int(), log_p=log_p.half(), hidden=kept)


def _joined(parts: Sequence[Lessons]) -> Lessons:
    ids, top, log_p = (torch.cat([getattr(part, name) for part in parts]) for name in ("ids", "top", "log_p"))
    hidden = tuple(torch.cat(states) for states in zip(*(part.hidden for part in parts), strict=True))
    return Lessons(ids=ids, top=top, log_p=log_p, hidden=hidden)


@contextmanager
def hidden_states(model: nn.Module) -> Iterator[list[Tensor]]:
    """A list that a pass over the model fills: what comes out of the first half of the blocks, and what goes into the
    head, (windows, tokens, width); of a model without a plain list of blocks the latter only."""
    seen: list[Tensor] = []

    def out_of(_: nn.Module, __: Any, output: Any) -> None:
        seen.append(output if isinstance(output, Tensor) else output[0])

    def into(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    head: nn.Module = model.get_output_embeddings()  # type: ignore[operator]
    hooks = [head.register_forward_pre_hook(into)]
    with suppress(ValueError):
        blocks = blocks_of(model)[1]
        hooks.append(blocks[max(len(blocks) // 2 - 1, 0)].register_forward_hook(out_of))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _write(teacher: nn.Module, start: Tensor, length: int, noise: torch.Generator) -> Iterator[Tensor]:
    """Go on from start (texts, tokens), each token drawn from the likeliest; yields the texts so far, up to `length`
    tokens of each."""
    writing, ids, new = Batch(teacher), start, start
    while ids.shape[1] < length:
        logits = writing.feed(new.to(device_of(teacher)))[:, -1]
        top, log_p = (part.cpu() for part in distill.likeliest(logits, TOP))
        new = top.gather(1, torch.multinomial(log_p[:, :-1].exp(), 1, generator=noise))
        ids = torch.cat([ids, new], dim=1)
        yield ids


def _openings(tokenizer: Any, texts: Mapping[str, Sequence[str]], length: int) -> list[list[int]]:
    """First tokens of the texts and of their second halves, mixed; all of one length."""
    start = front(tokenizer, always=True)
    found = []
    for text in (text for group in texts.values() for text in group):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        for at in (0, len(ids) // 2):
            opening = [*start, *ids[at:]][:length]
            found += [opening] if len(opening) == length else []
    if not found:
        raise ValueError("The calibration texts are too short to go on from.")
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0)).tolist()
    return [found[i] for i in order]


def _save(found: Lessons, file: Path) -> None:
    """On disk where that can be; learning goes on without."""
    hidden = {f"hidden.{i}": state for i, state in enumerate(found.hidden)}
    try:
        with replacing(file) as partial:
            save_tensors({"ids": found.ids, "top": found.top, "log_p": found.log_p, **hidden}, partial)
    except OSError as problem:
        logging.getLogger(__name__).warning("lessons are not kept: %s", problem)


def _load(file: Path) -> Lessons | None:
    """None where there is none; a damaged file is removed and counts as absent."""
    if not file.exists():
        return None
    try:
        kept = load_file(file)
        hidden = tuple(kept.pop(name) for name in sorted(kept) if name.startswith("hidden."))
        return Lessons(**kept, hidden=hidden)
    except (SafetensorError, OSError, TypeError) as error:
        logging.getLogger(__name__).warning("kept lessons are damaged, working them out again: %s", error)
        file.unlink(missing_ok=True)
        return None
