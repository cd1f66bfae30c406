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

from explorer.measure.quality import References, mean_kl, score
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
        with tempfile.TemporaryDirectory() as scratch:
            texts, out = Path(scratch) / "ids.json", Path(scratch) / "logits.npy"
            texts.write_text(json.dumps([passage.ids[0].tolist() for passage in original.passages]))
            command = [
                sys.executable,
                "-m",
                "explorer.bench.peers",
                str(gguf),
                str(TYPES.get(name, -1)),
                str(texts),
                str(out),
            ]
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            if answer.returncode:
                continue
            theirs = np.load(out)

            def compare(theirs: Any = theirs) -> list[Any]:
                parts = torch.split(torch.from_numpy(theirs), [p.predicted for p in original.passages])
                return [score(*each) for each in zip(original.passages, original.logits, parts, strict=True)]

            scores = step(compare)
        tokens = sum(s.tokens for s in scores)
        found = json.loads(answer.stdout.splitlines()[-1])
        rows.append({"peer": f"llama.cpp {name}", "kl": mean_kl(scores), "tokens": tokens, **found})
    return rows


def one(gguf: str, number: int, texts: str, out: str) -> None:
    """In its own process: quantize, predict the texts into `out`, time tokens, print what was found as JSON."""
    llama: Any = importlib.import_module("llama_cpp")
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(gguf)
        if number >= 0:
            file = Path(scratch) / "model.gguf"
            options = llama.llama_model_quantize_default_params()
            options.ftype, options.allow_requantize, options.nthread = number, True, threads
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


if __name__ == "__main__":
    one(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
