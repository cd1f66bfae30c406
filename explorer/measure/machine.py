"""What this machine can do: its name, how fast it reads memory, and how long each kernel takes for the matrices of a
model (the kernel table). Measured once and kept in a file named after machine, shapes and versions."""

import copy
import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explorer.files import replacing
from explorer.layers.choice import candidates, prefer
from explorer.layers.kernels import Decoded
from explorer.layers.storage import Spec, encode
from explorer.layers.targets import targets
from explorer.values.performance import Machine, Product
from explorer.values.reading import Reading

SPECS = (
    Spec(),
    Spec(bits=4),
    Spec(bits=8, group=0),
    Spec(format="nf4"),
    Spec(format="int8"),
)
TOKENS = (1, 128)  # one decode step; one prefill
READ_BYTES = 2**28
CACHED_BYTES = 2**26  # copies of a matrix that no cache holds all of
MOST_COPIES = {1: 128, 128: 2}
LAPS = 7
FORMAT = 3  # of the file; goes up when what is measured changes

Shape = tuple[int, int]


@cache
def processor(device: str = "cpu") -> str:
    """What the makers call the chip that multiplies."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            return next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def timed(work: Callable[[], object]) -> float:
    """ms that `work` takes."""
    _synchronize()
    started = time.perf_counter()
    work()
    _synchronize()
    return (time.perf_counter() - started) * 1e3


def about(model: nn.Module) -> tuple[list[Shape], torch.dtype, str]:
    """What a kernel table is for: the shapes of a model's matrices, and what they are made of and lie on."""
    weight = next(model.parameters())
    return [target.shape for target in targets(model)], weight.dtype, weight.device.type


def recall(shapes: Sequence[Shape], dtype: torch.dtype, device: str, folder: Path) -> Machine | None:
    """The machine as it was once measured for these matrices, or None; kernels are chosen by it from then on."""
    known = load(*_file(shapes, dtype, device, folder))
    prefer(known.times() if known else {})
    return known


def measure(shapes: Sequence[Shape], dtype: torch.dtype, device: str, folder: Path) -> Iterator[Machine]:
    """The machine, with one more row of its kernel table in every yield; kept in `folder` once it is whole, and taken
    from there the next time. Takes about ten seconds for a small model."""
    known = recall(shapes, dtype, device, folder)
    if known:
        yield known
        return
    found, products = _bare(dtype, device, bandwidth(device)), list[Product]()
    for shape in _ordered(shapes):
        for spec in SPECS:
            products += _products(shape, spec, dtype, device)
            yield Machine(**vars(found) | {"products": tuple(products)})
    save(Machine(**vars(found) | {"products": tuple(products)}), *_file(shapes, dtype, device, folder))
    recall(shapes, dtype, device, folder)


def _ordered(shapes: Sequence[Shape]) -> list[Shape]:
    return sorted(set(shapes), key=lambda shape: shape[0] * shape[1])


def _file(shapes: Sequence[Shape], dtype: torch.dtype, device: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    key = _key(shapes, dtype, device)
    return folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.json", key


@torch.no_grad()
def bandwidth(device: str, size: int = READ_BYTES) -> Reading:
    """Bytes per second of a plain read of `size` bytes, as all threads do it together."""
    block = torch.ones(size // 8, dtype=torch.long, device=device)  # adding floats is slower than reading them
    block.sum()
    speeds = [size / timed(block.sum) * 1e3 for _ in range(LAPS)]
    return Reading.timing(speeds, unit="bytes/s")


@torch.no_grad()
def _products(shape: Shape, spec: Spec, dtype: torch.dtype, device: str) -> list[Product]:
    """A row for each kernel and number of tokens; none where this machine has no kernel for the format."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    stored, found = encode(weight, spec), list[Product]()
    for kind in candidates(stored):
        if spec == Spec() or kind is not Decoded:
            kernel = kind(stored)  # type: ignore[arg-type]
            name = "dense" if spec == Spec() else kernel.name
            found += [_product(kernel, name, shape, tokens, weight) for tokens in TOKENS]
    return found


def _product(kernel: nn.Module, name: str, shape: Shape, tokens: int, like: torch.Tensor) -> Product:
    """Each lap goes over copies that lie apart in memory, as the layers of a model do."""
    x = torch.randn(tokens, shape[1], generator=torch.Generator().manual_seed(1)).to(like)
    size = sum(buffer.nbytes for buffer in kernel.buffers())
    copies = [copy.deepcopy(kernel) for _ in range(max(1, min(MOST_COPIES[tokens], CACHED_BYTES // size)))]

    def lap() -> None:
        for each in copies:
            each(x)

    lap()
    samples = [timed(lap) / len(copies) for _ in range(LAPS)]
    return Product(kernel=name, shape=shape, tokens=tokens, ms=Reading.timing(samples))


def save(machine: Machine, file: Path, key: dict[str, Any]) -> None:
    """Written beside and moved there, so that nobody reads half of it."""
    rows = [vars(product) | {"ms": vars(product.ms)} for product in machine.products]
    content = {"key": key, "bandwidth": vars(machine.bandwidth), "products": rows}
    with replacing(file) as partial:
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")


def load(file: Path, key: dict[str, Any]) -> Machine | None:
    """What is kept under this key, or None where there is nothing that can be used."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["key"] != key:
            return None
        rows = tuple(map(_row, content["products"]))
        read = _time(content["bandwidth"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    found = {"processor": key["processor"], "threads": key["threads"], "dtype": key["dtype"]}
    return Machine(**found, bandwidth=read, products=rows) if rows else None


def _bare(dtype: torch.dtype, device: str, read: Reading) -> Machine:
    threads, name = torch.get_num_threads(), str(dtype).removeprefix("torch.")
    return Machine(processor=processor(device), threads=threads, dtype=name, bandwidth=read)


def _key(shapes: Sequence[Shape], dtype: torch.dtype, device: str) -> dict[str, Any]:
    about = _bare(dtype, device, Reading(value=0, unit="bytes/s", how="measured"))
    return {
        "format": FORMAT,
        "processor": about.processor,
        "threads": about.threads,
        "dtype": about.dtype,
        "shapes": [list(shape) for shape in _ordered(shapes)],
        "versions": {name: version(name) for name in ("torch", "bitsandbytes", "llvmlite") if find_spec(name)},
    }


def _row(row: dict[str, Any]) -> Product:
    return Product(
        kernel=str(row["kernel"]), shape=_shape(row["shape"]), tokens=int(row["tokens"]), ms=_time(row["ms"])
    )


def _shape(value: Any) -> Shape:
    rows, columns = map(int, value)
    return rows, columns


def _time(values: dict[str, Any]) -> Reading:
    """A kept Reading of a time or a rate; ValueError where it is none."""
    found = Reading(**values)
    numbers = (found.value, found.low, found.high)
    if not all(isinstance(number, int | float) and 0 < number < float("inf") for number in numbers):
        raise ValueError("not a measured time")
    if found.how != "measured" or found.unit not in ("ms", "bytes/s"):
        raise ValueError("not a measured time")
    return found


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
