"""A model as one .gguf file, written by the gguf package: what it says, its tensors one after another, and how many
bytes that takes, told before anything is made."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.gguf_writer import WriterState

from explorer.formats.gguf_settings import Settings, settings
from explorer.formats.gguf_tensors import Entry, entries
from explorer.formats.gguf_vocabulary import vocabulary
from explorer.formats.leaves import Structure

FILE_TYPES = {"F32": "ALL_F32"}  # by most of the bytes, as llama.cpp names a file


@dataclass(frozen=True, kw_only=True)
class GgufFile:
    """What will be in the file. `about`: further values by key (name, licence, recipe); `mix`: the name of its mixture
    of types, where it is one of llama.cpp's."""

    said: Settings
    words: Mapping[str, Any]
    entries: tuple[Entry, ...]
    about: Mapping[str, Any]
    mix: str = ""

    @cached_property
    def bytes(self) -> int:
        """Of the whole file, exactly."""
        writer = self._writer(None)
        writer.fout, writer.state = [BytesIO()], WriterState.EMPTY
        self._head(writer)
        parts = [writer.fout[0].tell(), *(entry.bytes for entry in self.entries)]
        return sum(int(gguf.GGUFWriter.ggml_pad(count, writer.data_alignment)) for count in parts)

    def kinds(self) -> Counter[str]:
        """Bytes of the matrices of each ggml type."""
        found: Counter[str] = Counter()
        for entry in self.entries:
            found[entry.kind] += entry.bytes
        return found

    def write(self, file: Path) -> Iterator[float]:
        """Tensor by tensor; yields the share done. Whoever stops it removes the file."""
        writer = self._writer(file)
        try:
            self._head(writer)
            total, done = sum(entry.bytes for entry in self.entries), 0
            for entry in self.entries:
                data = entry.data()
                if data.nbytes != entry.bytes:
                    raise ValueError(f"{entry.name} took {data.nbytes} bytes, not the {entry.bytes} that were told.")
                writer.write_tensor_data(data)
                done += entry.bytes
                yield done / total
        finally:
            writer.close()

    def _head(self, writer: gguf.GGUFWriter) -> None:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()

    def _writer(self, file: Path | None) -> gguf.GGUFWriter:
        writer = gguf.GGUFWriter(file, self.said.architecture)
        kind = self.mix or max(self.kinds().items(), key=lambda each: each[1])[0]
        general = {"general.type": "model", "general.quantization_version": gguf.GGML_QUANT_VERSION}
        general |= {"general.file_type": int(gguf.LlamaFileType[FILE_TYPES.get(kind, f"MOSTLY_{kind}")])}
        own = {f"{self.said.architecture}.{key}": value for key, value in self.said.values.items()}
        for key, value in (general | dict(self.about) | own | dict(self.words)).items():
            _add(writer, key, value)
        for entry in self.entries:
            raw = gguf.GGMLQuantizationType[entry.kind]
            number = np.dtype(np.float16 if entry.kind == "F16" else np.float32)
            writer.add_tensor_info(entry.name, entry.shape, number, entry.bytes, raw)
        return writer


def gguf_file(structure: Structure, config: Any, tokenizer: Any, body: str, about: Mapping[str, Any]) -> GgufFile:
    """`body`: the name of the part that reads text; `about`: as in GgufFile, with `ends`, the ids that end an answer.

    ValueError in one sentence for a model or tokenizer that llama.cpp has no place for.
    """
    said = settings(config)
    rows = next(leaf.shape[0] for leaf in structure.leaves if leaf.name.endswith(TABLES))
    words = vocabulary(tokenizer, rows, list(about["ends"]))
    found = [*_factors(said), *entries(structure, said.architecture, config, body)]
    rest = {key: value for key, value in about.items() if key != "ends"}
    return GgufFile(said=said, words=words, entries=tuple(found), about=rest)


TABLES = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embeddings.weight")


def _factors(said: Settings) -> Iterator[Entry]:
    for name, numbers in said.factors.items():
        data = np.array(numbers, np.float32)
        yield Entry(name=name, shape=data.shape, kind="F32", bytes=data.nbytes, data=lambda data=data: data)  # type: ignore[misc]


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        kinds = {bool: writer.add_bool, int: writer.add_uint32, str: writer.add_string}
        kinds[type(value)](key, value)
