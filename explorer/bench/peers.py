"""The same weights on the same text through llama.cpp, beside which our own figures stand: bytes, KL, time per token.

Needs llama-cpp-python (the `peers` extra) and a GGUF file of the model's weights, which llama.cpp quantizes anew. Each
type runs in a process of its own: a second team of OpenMP workers would slow down whoever is timed after it.
"""

import ctypes
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from explorer.measure.quality import References, Score, mean_kl, score
from explorer.values.reading import Reading

TYPES = {"Q8_0": 7, "Q6_K": 18, "Q5_K_M": 17, "Q4_K_M": 15, "Q3_K_M": 12, "Q2_K": 10}  # llama.h, enum llama_ftype
STEPS = 64


def run(
    gguf: Path, original: References, say: Callable[[str], None], step: Callable[[Any], Any]
) -> list[dict[str, Any]]:
    """One row for the file as it is, one for each type that llama.cpp makes of it; `step` runs work of torch."""
    rows = []
    for name in (gguf.stem.rpartition(".")[2] or gguf.stem, *TYPES):
        say(f"llama.cpp: {name}.")
        try:
            found, theirs = predicted(gguf, TYPES.get(name, -1), original)
        except RuntimeError:
            continue

        def compare(theirs: Any = theirs) -> list[Score]:
            return scores_of(theirs, original)

        scores = step(compare)
        tokens = sum(s.tokens for s in scores)
        rows.append({"peer": f"llama.cpp {name}", "kl": mean_kl(scores), "tokens": tokens, **found})
    return rows


def predicted(
    gguf: Path, number: int, original: References, importance: str = "", kept: Path | None = None
) -> tuple[dict[str, Any], Any]:
    """What llama.cpp says of a file, which it quantizes to this llama_ftype before (-1: takes as it is): megabytes and
    time, and its logits (tokens, vocabulary). importance: an .npz of E[x²] by name; kept: where the quantized one
    stays. RuntimeError where it does not come to an end."""
    with tempfile.TemporaryDirectory() as scratch:
        texts, out = Path(scratch) / "ids.json", Path(scratch) / "logits.npy"
        texts.write_text(json.dumps([passage.ids[0].tolist() for passage in original.passages]))
        words = [str(gguf), str(number), str(texts), str(out), importance, str(kept or "")]
        command = [sys.executable, "-m", "explorer.bench.peers", *words]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise RuntimeError(f"llama.cpp ended with {answer.returncode}: {answer.stderr[-300:]}")
        return json.loads(answer.stdout.splitlines()[-1]), np.load(out)


def scores_of(logits: Any, original: References) -> list[Score]:
    """Passage by passage."""
    parts = torch.split(torch.from_numpy(logits), [p.predicted for p in original.passages])
    return [score(*each) for each in zip(original.passages, original.logits, parts, strict=True)]


def one(gguf: str, number: int, texts: str, out: str, importance: str = "", kept: str = "") -> None:
    """In its own process: quantize, predict the texts into `out`, time tokens, print what was found as JSON."""
    llama: Any = importlib.import_module("llama_cpp")
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(gguf)
        if number >= 0:
            file = Path(kept or f"{scratch}/model.gguf")
            options = llama.llama_model_quantize_default_params()
            options.ftype, options.allow_requantize, options.nthread = number, True, threads
            weighed = _weighed(llama, importance) if importance else None  # lives as long as it is pointed to
            if weighed is not None:
                options.imatrix = weighed[0]
            if llama.llama_model_quantize(gguf.encode(), str(file).encode(), ctypes.byref(options)):
                raise SystemExit(1)
        known = {"n_ctx": 512, "n_batch": 512, "n_threads": threads, "n_threads_batch": threads, "verbose": False}
        model = llama.Llama(str(file), logits_all=True, **known)
        parts = []
        for ids in json.loads(Path(texts).read_text()):
            model.reset()
            model.eval(ids)
            parts.append(model.scores[: len(ids) - 1].copy())
        np.save(out, np.concatenate(parts))
        model = llama.Llama(str(file), **known)
        model.eval(list(range(100, 228)))
        samples = []
        for token in range(500, 500 + STEPS):
            started = time.perf_counter()
            model.eval([token])
            samples.append((time.perf_counter() - started) * 1e3)
        found = {"megabytes": file.stat().st_size / 1e6, "ms_per_token": Reading.timing(samples).to_dict()}
    print(json.dumps(found))


def _weighed(llama: Any, importance: str) -> tuple[Any, list[Any]]:
    """An importance matrix as llama.cpp takes it: names and arrays, a name that is none at the end; and what it points
    to."""
    powers = {name: np.ascontiguousarray(power, np.float32) for name, power in np.load(importance).items()}
    kind, floats = llama.llama_cpp.llama_model_imatrix_data, ctypes.POINTER(ctypes.c_float)
    entries = (kind * (len(powers) + 1))()
    for place, (name, power) in enumerate(powers.items()):
        entries[place] = kind(name.encode(), power.ctypes.data_as(floats), power.size)
    return entries, list(powers.values())


if __name__ == "__main__":
    one(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
