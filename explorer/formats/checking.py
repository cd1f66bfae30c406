"""A written file, opened again by the program it is for and compared with the variant that it came from."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from explorer.formats.folders import WEIGHTS
from explorer.measure.intervals import Blocks
from explorer.measure.quality import Passage, Score, logits_of, score
from explorer.model import conversion
from explorer.model.decode import Continuation
from explorer.model.loaders import filled_model_of, model_of, quiet
from explorer.model.preflight import ModelRejected, refusing
from explorer.values.departure import Check
from explorer.values.reading import Reading

TOKENS, NEW, PROMPT = 512, 32, 32  # compared, written greedily, and read before that
PATIENCE = 600  # seconds for llama.cpp
MOST = 0.05  # nats: no rounding of a format comes near; more is a file that says something else
MOST_ROUNDED = 3.0  # the same where a file is rounded to few bits itself, which 2 bits of a tiny model need
# Texts on which tokenizers part: odd spaces, code, signs of other scripts; and control tokens, read as such.
TEXTS = (
    "Hello, world!", "  two spaces  inside   and behind ", "\ttabs\n\n\nlines\r\n",
    "It's  I'LL we've  don’t", "x", " ", "", "for (int i=0;i<10;++i) { a[i] *= 2; } // twice",
    "def f(x):\n    return x**2\n\n\nprint(f(3))", "12345678 3.14 1,000", "naïve Straße ÉTÉ",
    "こんにちは世界。東京", "Привет, мир", "مرحبا بالعالم", "안녕하세요", "🙂🚀👩\u200d💻 emoji",
    "http://a.b/c?d=e&f#g", "snake_case camelCase HTTPServer", "$5 €6 ©®™ ½ ²",
    "a\u00a0b\u2009c", "# Title\n\n* one\n* two", "!!!???...", "<b>bold</b>",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Right:
    """What the variant says on the first passages that hold `TOKENS` tokens: logits, and what it writes."""

    passages: tuple[Passage, ...]
    logits: tuple[Tensor, ...]
    prompt: Tensor
    greedy: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Found:
    """The same of who opened the file; the texts' tokens where it makes tokens itself."""

    opened_by: str
    logits: tuple[Tensor, ...]
    greedy: tuple[int, ...]
    tokens: tuple[list[int], ...] | None = None
    notes: tuple[str, ...] = ()


def right_of(model: nn.Module, passages: Sequence[Passage]) -> Right:
    """passages: in order; enough of them are taken."""
    chosen, held = list[Passage](), 0
    for passage in passages:
        if held >= TOKENS:
            break
        chosen.append(passage)
        held += passage.predicted
    longest = max(chosen, key=lambda passage: passage.predicted)
    prompt = longest.ids[:, :PROMPT]
    logits = tuple(logits_of(model, passage) for passage in chosen)
    return Right(passages=tuple(chosen), logits=logits, prompt=prompt, greedy=_greedy(model, prompt))


def compared(right: Right, found: Found, tokenizer: Any, file_bytes: int, most: float = MOST) -> Check:
    """ModelRejected where it predicts something else than the variant by more than any rounding."""
    pairs = zip(right.passages, right.logits, found.logits, strict=True)
    scores: list[Score] = [score(*each) for each in pairs]
    blocks = Blocks([len(each.kl) for each in scores])
    kl = blocks.mean(np.concatenate([each.kl for each in scores]), "nats", positive=True)
    if not kl.value < most:
        sentence = f"What was written predicts something else than the variant (KL {kl.value:.3g} nats, opened by"
        raise ModelRejected("export", f"{sentence} {found.opened_by}); nothing was kept.")
    same = next((at for at, pair in enumerate(zip(right.greedy, found.greedy, strict=True)) if pair[0] != pair[1]), NEW)
    texts = None
    if found.tokens is not None:
        equal = sum(a == b for a, b in zip(_tokens(tokenizer), found.tokens, strict=True))
        texts = Reading(value=equal, unit="texts", how="measured", n=len(found.tokens))
    return Check(
        opened_by=found.opened_by,
        bytes=Reading(value=file_bytes, unit="bytes", how="measured"),
        kl=kl,
        greedy=Reading(value=same, unit="tokens", how="measured", n=NEW),
        texts=texts,
        notes=found.notes,
    )


def by_transformers(folder: Path, right: Right, how: str = "transformers") -> Found:
    """As its users open it. ModelRejected in one sentence."""
    with quiet(), refusing("export", f"{how} does not open what was written"):
        model, info = model_of(folder, dtype="auto")
    lost = sorted({str(name) for key in ("missing_keys", "mismatched_keys", "unexpected_keys") for name in info[key]})
    if lost:
        raise ModelRejected("export", f"{how} finds other tensors than it looks for, {lost[0]} among them.")
    return of_model(model.eval(), right, how)


def by_compressed_tensors(folder: Path, right: Right) -> Found:
    """By transformers where one width is all; of several widths each layer by the package itself."""
    said = json.loads((folder / "config.json").read_text(encoding="utf-8"))["quantization_config"]
    if len(said["config_groups"]) == 1:
        return by_transformers(folder, right, "transformers with compressed-tensors")
    with quiet(), refusing("export", "compressed-tensors does not open what was written"):
        model, _ = filled_model_of(folder, _unpacked(folder, said))
    note = "transformers opens codes of one width only; vLLM opens several"
    return with_notes(of_model(model.eval(), right, "compressed-tensors"), [note])


def _unpacked(folder: Path, said: dict[str, Any]) -> dict[str, Tensor]:
    """All tensors, the packed ones decoded by the package, each as its group says."""
    compressors, quantization = (
        import_module(f"compressed_tensors.{part}") for part in ("compressors", "quantization")
    )
    stored: dict[str, Tensor] = load_file(folder / WEIGHTS)
    packer = compressors.BaseCompressor.get_value_from_registry("pack-quantized")
    found = dict[str, Tensor]()
    schemes = {
        name: quantization.QuantizationScheme.model_validate(group)
        for group in said["config_groups"].values()
        for name in group["targets"]
    }
    for name, scheme in schemes.items():
        own = {
            key.removeprefix(f"{name}."): stored.pop(key) for key in list(stored) if key.startswith(f"{name}.weight")
        }
        found[f"{name}.weight"] = packer.decompress(own, scheme)["weight"]
    return stored | found


def of_model(model: nn.Module, right: Right, how: str) -> Found:
    logits = tuple(logits_of(model, passage) for passage in right.passages)
    return Found(opened_by=how, logits=logits, greedy=_greedy(model, right.prompt))


def has(package: str) -> bool:
    return find_spec(package) is not None


def by_gguf_package(file: Path, right: Right) -> Found:
    """Decoded by the gguf package into a transformers model: our own reading of such files."""
    model, _, notes = conversion.decoded(file)
    return with_notes(of_model(model.eval(), right, "gguf package (llama.cpp is not installed here)"), notes)


def with_notes(found: Found, notes: Sequence[str]) -> Found:
    return Found(**vars(found) | {"notes": tuple(notes)})


def by_llama_cpp(file: Path, right: Right, tokenizer: Any) -> Iterator[Found | None]:
    """Waits for it, and yields None meanwhile so that a caller can stop; at last what was found."""
    with tempfile.TemporaryDirectory(prefix="size-explorer-") as scratch:
        asked, out = Path(scratch) / "asked.json", Path(scratch) / "logits.npy"
        texts = [[text, special] for text, special in _texts(tokenizer)]
        given = {"file": str(file.resolve()), "passages": [p.ids[0].tolist() for p in right.passages], "new": NEW}
        given |= {"prompt": right.prompt[0].tolist(), "texts": texts, "threads": torch.get_num_threads()}
        asked.write_text(json.dumps(given), encoding="utf-8")
        command = [sys.executable, "-m", "explorer.formats.llama_process", str(asked), str(out)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        child = subprocess.Popen(command, env=os.environ | {"PYTHONIOENCODING": "utf-8"}, **pipes)
        try:
            until = time.monotonic() + PATIENCE
            while True:
                try:
                    said, faults = child.communicate(timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    if time.monotonic() > until:
                        raise ModelRejected("export", "llama.cpp did not come to an end with the file.") from None
                    yield None
        finally:
            child.kill()
            child.wait()
        if child.returncode:
            last = (faults.strip().splitlines() or [f"it ended with {child.returncode}"])[-1][:200]
            raise ModelRejected("export", f"llama.cpp does not open what was written: {last}")
        answer = json.loads(said.splitlines()[-1])
        parts = torch.split(torch.from_numpy(np.load(out)), [p.predicted for p in right.passages])
        yield Found(
            opened_by=f"llama.cpp (llama-cpp-python {answer['version']})",
            logits=tuple(part[:, : right.logits[0].shape[1]] for part in parts),
            greedy=tuple(answer["greedy"]),
            tokens=tuple(answer["tokens"]),
        )


def _texts(tokenizer: Any) -> list[tuple[str, bool]]:
    control = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special][:8]
    marked = [(f"before{token}behind {token}\n", True) for token in control]
    return [*((text, False) for text in TEXTS), *marked]


def _tokens(tokenizer: Any) -> list[list[int]]:
    return [
        tokenizer(text, add_special_tokens=False, split_special_tokens=not special)["input_ids"]
        for text, special in _texts(tokenizer)
    ]


@torch.inference_mode()
def _greedy(model: nn.Module, prompt: Tensor) -> tuple[int, ...]:
    text, ids, found = Continuation(model, own_step=False), prompt, list[int]()
    for _ in range(NEW):
        found.append(int(text.feed(ids).argmax()))
        ids = torch.tensor([[found[-1]]])
    return tuple(found)
