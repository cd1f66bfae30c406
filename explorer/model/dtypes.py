"""In which number format a model runs: that of most of its file's bytes, what lies in another one is converted. Said in
words, so that a size or a distance is never compared with something else than what is there."""

from collections.abc import Iterator, Set
from typing import Any

import torch

from explorer.model.preflight import ModelFiles, ModelRejected

FLOATS = {  # as safetensors names them: in which dtype they run
    "F64": torch.float32,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.bfloat16,  # holds every one of its values
    "F8_E5M2": torch.bfloat16,
}
WORDS = {"F64": "float64", "F8_E4M3": "float8 (E4M3)", "F8_E5M2": "float8 (E5M2)"}


def dtype_of(files: ModelFiles) -> torch.dtype:
    """The dtype that a model of these files is opened in. ModelRejected where they hold whole numbers only."""
    counts = {name: count for name, count in files.bytes_by_format.items() if name in FLOATS}
    if not counts:
        raise ModelRejected("number-format", "The weights are whole numbers, which nothing here says how to read.")
    return FLOATS[max(counts, key=lambda name: counts[name])]


def check_numbers(files: ModelFiles, model: Any) -> None:
    """Refuse weights that are stored as whole numbers: what they stand for is not in the file."""
    for name, _ in model.named_parameters():
        dtype = files.tensors[name][3] if name in files.tensors else "F32"
        if dtype not in FLOATS:
            sentence = f"The weights in {name} are whole numbers ({dtype}), which nothing here says how to read."
            raise ModelRejected("number-format", sentence)


def conversions(files: ModelFiles, model: Any, dtype: torch.dtype, spare: Set[str] = frozenset()) -> Iterator[str]:
    """A sentence for each number format that does not run as it is stored; `spare` are tensors that do not run."""
    opened = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    groups: dict[tuple[str, torch.dtype], list[int]] = {}
    for name, (_, length, _, stored) in files.tensors.items():
        used = opened.get(name, dtype)  # a name of its own has what is opened in one piece, such as experts
        if (
            name not in spare
            and stored in FLOATS
            and used.is_floating_point
            and (FLOATS[stored] != used or stored in WORDS)
        ):
            groups.setdefault((stored, used), []).append(length)
    for (stored, used), lengths in groups.items():
        what = f"{len(lengths)} tensors of {size_words(sum(lengths))}" if len(lengths) > 1 else "One tensor"
        verb = "are" if len(lengths) > 1 else "is"
        word = WORDS.get(stored) or str(FLOATS[stored]).removeprefix("torch.")
        yield f"{what} stored as {word} {verb} used as {str(used).removeprefix('torch.')}."


def size_words(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"
