"""llama.cpp's side of a check, in a process of its own: python -m explorer.formats.llama_process ASKED OUT.

ASKED is JSON: the .gguf `file`, `passages` as ids, `prompt` as ids, `new` tokens to write, `texts` to make tokens of.
OUT becomes the logits of all passages, (predicted, vocabulary) float32, as .npy; the rest is printed as JSON.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(asked: str, out: str) -> None:
    llama: Any = importlib.import_module("llama_cpp")
    given = json.loads(Path(asked).read_text(encoding="utf-8"))
    longest = max(map(len, [*given["passages"], [*given["prompt"], *range(given["new"])]]))
    threads = {"n_threads": given["threads"], "n_threads_batch": given["threads"]}
    model = llama.Llama(
        given["file"],
        n_ctx=longest + 8,
        n_batch=longest + 8,
        n_ubatch=longest + 8,
        logits_all=True,
        verbose=False,
        **threads,
    )
    logits = []
    for ids in given["passages"]:
        model.reset()
        model.eval(ids)
        logits.append(model.scores[: len(ids) - 1].copy())
    np.save(out, np.concatenate(logits))
    model.reset()
    model.eval(given["prompt"])
    greedy: list[int] = []
    for _ in range(given["new"]):
        greedy.append(int(model.scores[model.n_tokens - 1].argmax()))
        model.eval(greedy[-1:])
    tokens = [model.tokenize(text.encode(), add_bos=False, special=special) for text, special in given["texts"]]
    print(json.dumps({"greedy": greedy, "tokens": tokens, "version": llama.__version__}))


if __name__ == "__main__":
    main(*sys.argv[1:])
