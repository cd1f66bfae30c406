"""Tensors by key: some in memory, some in files, of which those read last stay mapped. What is found out about a model
grows with its blocks; what is held of it at once does not."""

import logging
import shutil
from collections import OrderedDict
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from explorer.files import replacing
from explorer.model.disk import save_tensors

ROOM = 1_000_000_000  # bytes of files that stay mapped, and of what was only worked out in passing


class Shelf(MutableMapping[str, Tensor]):
    """A value that was put in stays in memory until `put_away`; what was `remember`ed may be forgotten when there is
    more than `room`, and must be worked out again."""

    def __init__(self, folder: Path | None = None, room: int = ROOM) -> None:
        self.folder, self.room = folder, room
        self._memory: dict[str, Tensor] = {}
        self._passing: OrderedDict[str, Tensor] = OrderedDict()
        self._files: dict[str, str] = {}  # key → name of its file
        self._mapped: OrderedDict[str, dict[str, Tensor]] = OrderedDict()
        self._bytes: dict[str, int] = {}  # of each mapped file

    def __getitem__(self, key: str) -> Tensor:
        if key in self._memory:
            return self._memory[key]
        if key in self._passing:
            self._passing.move_to_end(key)
            return self._passing[key]
        return self._map(self._files[key])[key]

    def __setitem__(self, key: str, tensor: Tensor) -> None:
        self._passing.pop(key, None)
        self._memory[key] = tensor

    def __delitem__(self, key: str) -> None:
        for place in (self._memory, self._passing, self._files):
            place.pop(key, None)  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self._memory, *self._passing, *self._files])

    def __len__(self) -> int:
        return len(set(self._memory) | set(self._passing) | set(self._files))

    def __contains__(self, key: object) -> bool:
        return key in self._memory or key in self._passing or key in self._files

    def saved(self, name: str) -> bool:
        """Whether a file of this name is there."""
        return self.folder is not None and (self.folder / f"{name}.safetensors").is_file()

    def remember(self, tensors: Mapping[str, Tensor]) -> None:
        """Keep as long as there is room."""
        self._passing.update(tensors)
        while len(self._passing) > len(tensors) and sum(t.nbytes for t in self._passing.values()) > self.room:
            self._passing.popitem(last=False)

    def forget(self) -> None:
        """What was remembered in passing."""
        self._passing.clear()

    def put_away(self, name: str, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> None:
        """Into a file of this name, whole or not at all, and out of memory; without a folder they stay in memory, and
        where there is no room on disk too, with the OSError passed on."""
        self._memory.update(tensors)
        if self.folder is None:
            return
        with replacing(self.folder / f"{name}.safetensors") as partial:
            save_tensors(tensors, partial, about or {})
        self._mapped.pop(name, None)
        for key in tensors:
            self._files[key] = name
            self._memory.pop(key, None)
            self._passing.pop(key, None)

    def load(self, name: str) -> dict[str, str] | None:
        """Take up all files of the folder, and what is said in the one of this name; None where that is not there or
        anything is damaged, and then nothing is left."""
        if self.folder is None or not (self.folder / f"{name}.safetensors").is_file():
            return None
        try:
            for file in sorted(self.folder.glob("*.safetensors")):
                with safe_open(file, "pt") as opened:
                    self._files |= dict.fromkeys(opened.keys(), file.stem)
            with safe_open(self.folder / f"{name}.safetensors", "pt") as opened:
                return dict(opened.metadata() or {})
        except (SafetensorError, OSError) as error:
            logging.getLogger(__name__).warning("kept facts are damaged, working them out again: %s", error)
            self.clear_away()
            return None

    def clear_away(self) -> None:
        """All of it, the files too."""
        for place in (self._memory, self._passing, self._files, self._mapped):
            place.clear()  # type: ignore[attr-defined]
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _map(self, name: str) -> dict[str, Tensor]:
        assert self.folder is not None
        if name not in self._mapped:
            self._mapped[name] = load_file(self.folder / f"{name}.safetensors")
            self._bytes[name] = sum(tensor.nbytes for tensor in self._mapped[name].values())
        self._mapped.move_to_end(name)
        while len(self._mapped) > 1 and sum(self._bytes[each] for each in self._mapped) > self.room:
            self._mapped.popitem(last=False)
        return self._mapped[name]
