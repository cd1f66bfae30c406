"""What is found out about a model once, so that every slider setting is a slice or a comparison afterwards: what goes
into each layer (calibration), the ranks of each weight within its row, the spectrum of each matrix, the best ranges for
rounding. Kept on disk. Knows no tokenizer and no recipe."""

import ctypes
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from explorer.files import replacing
from explorer.layers.linear import dtype_of
from explorer.layers.targets import targets, weight_of
from explorer.methods import factorize, prune
from explorer.model.calibrating import FELT_TOKENS, FIRST_TOKENS, OUTPUT_TOKENS, Gather, felt, first
from explorer.native import encoding

VERSION = "7"
KEPT_GRIDS = ((4, 64), (3, 64), (5, 64), (6, 64), (8, 0), (2, 64))  # (bits, group) that sliders ask for


class Facts:
    """Facts by target name. What is missing is worked out when it is asked for, and then kept.

    `tokens` is how many tokens of calibration text went through the model; 0 = only what the weights alone tell.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.file: Path | None = None  # where they are kept, once they are
        self._kept: dict[str, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}  # E[g gᵀ] of each layer's output; large, and gone after `prepare`
        self._input_of: dict[str, str] = {}  # target → the target under whose name their common input is kept

    # what goes into a layer

    def gram(self, name: str) -> Tensor | None:
        """E[x xᵀ] of the layer's input, (columns, columns) float32; None before calibration."""
        return self._kept.get(f"{self._input_of.get(name, name)}|gram")

    def felt_gram(self, name: str) -> Tensor | None:
        """The same mixed in equal parts with Σ |g|² x xᵀ, where |g| is how strongly the loss feels the layer's output
        at a token (as in GuidedQuant, Kim et al., arXiv 2505.07004, §3); plain E[x xᵀ] before `refine`."""
        found = self._kept.get(f"{self._input_of.get(name, name)}|felt")
        return self.gram(name) if found is None else found

    @property
    def refined(self) -> bool:
        """Whether `refine` was done."""
        return any(key.endswith("|felt") for key in self._kept)

    def mean(self, name: str) -> Tensor:
        """E[x], (columns,) float32."""
        return self._kept[f"{self._input_of.get(name, name)}|mean"]

    def mean_size(self, name: str) -> Tensor | None:
        """E[|x|], (columns,) float32; None before calibration."""
        return self._kept.get(f"{self._input_of.get(name, name)}|size")

    def importance(self, name: str) -> Tensor | None:
        """E[x²], (columns,) float32; None before calibration."""
        gram = self.gram(name)
        return None if gram is None else gram.diagonal()

    @property
    def angles(self) -> Tensor:
        """(blocks + 1, blocks + 1): mean angle between the hidden states at two places, over π."""
        if "blocks|angles" not in self._kept:
            raise ValueError("Hidden states here have several shapes: blocks cannot be chosen by their angles.")
        return self._kept["blocks|angles"]

    @property
    def drop_scores(self) -> Tensor:
        """(blocks,): 1 - mean cosine across each block (Men et al., ShortGPT, arXiv 2403.03853, §3)."""
        return self._kept["blocks|influence"]

    # what follows from it

    def score(self, name: str, weight: Tensor, method: str) -> Tensor:
        """(rows, columns) pruning scores, see `prune.score`."""
        return prune.score(weight, self.importance(name), method)

    def ranks(self, name: str, weight: Tensor, method: str) -> Tensor:
        """(rows, columns): the place of each weight within its row by its score."""
        return self._recall(f"{name}|{method}.ranks", lambda: prune.ranks(prune.keys(self.score(name, weight, method))))

    def right_ranks(self, name: str, weight: Tensor, factors: str, method: str) -> Tensor:
        """Ranks of the right factor; its rows do not depend on the rank, so they serve every one."""

        def work() -> Tensor:
            right = self.spectrum(name, weight, factors)[1]
            return prune.ranks(prune.keys(self.score(name, right, method)))

        return self._recall(f"{name}|{factors}.{method}.right_ranks", work)

    def spectrum(self, name: str, weight: Tensor, method: str) -> tuple[Tensor, Tensor, Tensor]:
        """Left (n, r) and right (r, m) factor up to the rank where factorizing stops paying, and all eigenvalues."""
        words = [f"{name}|{method}.{part}" for part in ("left", "right", "values")]
        if words[0] not in self._kept:
            inputs = {"covariance": self.gram, "asvd": self.mean_size}.get(method, lambda _: None)(name)
            outputs = self._outputs.get(name) if method == "covariance" else None
            found = factorize.spectrum(weight, factorize.highest_rank(*weight.shape), inputs, outputs)
            self._kept.update(zip(words, found, strict=True))
        left, right, values = (self._kept[word] for word in words)
        return left, right, values

    def grid(self, name: str, weight: Tensor, bits: int, group: int) -> tuple[Tensor, Tensor]:
        """Scale and zero of each group by range search, weighted by E[x²]."""
        words = [f"{name}|grid.{bits}.{group}.{part}" for part in ("scale", "zero")]
        if words[0] not in self._kept:
            found = encoding.search_grid(weight, bits, group, self.importance(name))
            self._kept.update(zip(words, found, strict=True))
        return self._kept[words[0]], self._kept[words[1]]

    # working it out, and keeping it

    def calibrate(self, model: nn.Module, windows: Sequence[Tensor], first: int = FIRST_TOKENS) -> Iterator[float]:
        """Run windows of ids (1, tokens) through the model and gather what goes into each layer; yields the share done.

        `tokens` is set when `first` tokens went through and again at the end; what was derived before is dropped.
        """
        gather = Gather(model)
        self._input_of = gather.input_of
        announced = False
        for done, ids in enumerate(windows, 1):
            gather.run(ids)
            last = done == len(windows)
            if last or (gather.tokens >= first and not announced):
                announced = True
                self._kept = {}  # let go first: both together would be the most that is ever held
                self._kept = dict(gather.means(last))
                self._kept["calibration|ids"] = torch.cat([window[0] for window in windows])
                self._kept["calibration|lengths"] = torch.tensor([window.shape[1] for window in windows])
                self.tokens = gather.tokens
            yield done / len(windows)

    @property
    def windows(self) -> list[Tensor]:
        """The calibration text, ids (1, tokens)."""
        ids, lengths = self._kept["calibration|ids"], self._kept["calibration|lengths"].tolist()
        return [part[None] for part in torch.split(ids, lengths)]

    def weigh_outputs(self, model: nn.Module) -> Iterator[float]:
        """Gather which of each layer's outputs the loss feels, for `spectrum`; yields the share done."""
        windows, outputs = first(self.windows, OUTPUT_TOKENS), dict[str, Tensor]()
        tokens = sum(window.shape[1] for window in windows)

        def see(name: str, _: Tensor, g: Tensor) -> None:
            if name in outputs:
                outputs[name].addmm_(g.T, g, alpha=1 / tokens)
            else:
                outputs[name] = g.T @ (g / tokens)

        for done, ids in enumerate(windows, 1):
            felt(model, ids, self._input_of, done, see)
            release()
            yield done / len(windows)
        self._outputs = outputs
        for key in [key for key in self._kept if "|covariance." in key]:
            del self._kept[key]  # asked for before this was known

    def refine(self, model: nn.Module) -> Iterator[float]:
        """Gather how strongly the loss feels each token at each layer, for methods that hand errors on; yields the
        share done. Takes a backward pass over a part of the calibration text, and is kept on disk with the rest."""
        windows, sums = first(self.windows, FELT_TOKENS), dict[str, Tensor]()
        inputs, powers = dict[str, Tensor](), dict[str, Tensor]()

        def see(name: str, x: Tensor, g: Tensor) -> None:
            key = self._input_of[name]
            inputs[key] = x
            powers[key] = g.square().sum(1, keepdim=True) + powers.get(key, 0)

        for done, ids in enumerate(windows, 1):
            powers.clear()
            felt(model, ids, self._input_of, done, see)
            for key, x in inputs.items():
                weighed = (x.float() * powers[key]).T
                sums[key] = sums[key].addmm_(weighed, x.float()) if key in sums else weighed @ x.float()
            inputs.clear()
            release()
            yield done / len(windows)
        for key, total in sums.items():
            plain = self._kept[f"{key}|gram"]
            scale = plain.diagonal().mean() / total.diagonal().mean().clamp(min=1e-30)
            self._kept[f"{key}|felt"] = total.mul_(scale).add_(plain).div_(2)
        self._save_felt()

    def prepare(self, model: nn.Module) -> Iterator[float]:
        """After calibration: what the live sliders ask for, matrix by matrix; yields the share done."""
        layers = [target for target in targets(model) if target.kind in ("attention", "mlp")]
        for done, target in enumerate(layers, 1):
            weight = weight_of(model.get_submodule(target.name))
            self.ranks(target.name, weight, "wanda")
            self.spectrum(target.name, weight, "covariance")
            for bits, group in KEPT_GRIDS:
                self.grid(target.name, weight, bits, group)
            self._outputs.pop(target.name, None)
            yield done / len(layers)

    def save(self, file: Path) -> None:
        """Write everything, but for what `refine` found (in a file beside it); a reader sees a whole file or none."""
        self.file = file
        _felt_file(file).unlink(missing_ok=True)
        about = {"tokens": str(self.tokens), **{f"input {k}": v for k, v in self._input_of.items()}}
        _write({key: tensor for key, tensor in self._kept.items() if not key.endswith("|felt")}, file, about)
        self._save_felt()
        self.load(file)  # as pages of the file, which the system may take back, in place of memory of our own
        release()

    def _save_felt(self) -> None:
        felt = {key: tensor for key, tensor in self._kept.items() if key.endswith("|felt")}
        if self.file and felt:
            _write(felt, _felt_file(self.file), {})
            self._kept |= load_file(_felt_file(self.file))

    def load(self, file: Path) -> bool:
        """Take up what an earlier start has saved; a damaged file is removed and counts as absent."""
        if not file.exists():
            return False
        try:
            kept = load_file(file)
            with safe_open(file, "pt") as opened:
                about: Mapping[str, str] = opened.metadata() or {}
            self.tokens = int(about["tokens"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            logging.getLogger(__name__).warning("kept facts are damaged, working them out again: %s", error)
            file.unlink(missing_ok=True)
            return False
        self._kept, self.file = kept, file
        try:
            self._kept |= load_file(_felt_file(file))
        except (SafetensorError, OSError):  # absent as a rule
            _felt_file(file).unlink(missing_ok=True)
        self._input_of = {k.removeprefix("input "): v for k, v in about.items() if k.startswith("input ")}
        return True

    def _recall(self, key: str, work: Callable[[], Tensor]) -> Tensor:
        if key not in self._kept:
            self._kept[key] = work()
        return self._kept[key]


class ReducedFacts(Facts):
    """Facts of a model from which blocks, channels or heads were taken: the base's where a matrix is the base's own."""

    def __init__(
        self, base: Facts, origin: Mapping[str, str], changed: frozenset[str], kept_channels: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        self.base, self.origin, self.changed, self.kept_channels = base, origin, changed, kept_channels
        self.tokens = base.tokens

    def gram(self, name: str) -> Tensor | None:
        return self._of_inputs(name, self.base.gram)

    def felt_gram(self, name: str) -> Tensor | None:
        return self._of_inputs(name, self.base.felt_gram)

    def mean(self, name: str) -> Tensor:
        found = self._of_inputs(name, self.base.mean)
        assert found is not None
        return found

    def mean_size(self, name: str) -> Tensor | None:
        return self._of_inputs(name, self.base.mean_size)

    def ranks(self, name: str, weight: Tensor, method: str) -> Tensor:
        if name in self.changed:
            return super().ranks(name, weight, method)
        return self.base.ranks(self.origin[name], weight, method)

    def right_ranks(self, name: str, weight: Tensor, factors: str, method: str) -> Tensor:
        if name in self.changed:
            return super().right_ranks(name, weight, factors, method)
        return self.base.right_ranks(self.origin[name], weight, factors, method)

    def spectrum(self, name: str, weight: Tensor, method: str) -> tuple[Tensor, Tensor, Tensor]:
        if name in self.changed:
            return super().spectrum(name, weight, method)
        return self.base.spectrum(self.origin[name], weight, method)

    def grid(self, name: str, weight: Tensor, bits: int, group: int) -> tuple[Tensor, Tensor]:
        if name in self.changed:
            return super().grid(name, weight, bits, group)
        return self.base.grid(self.origin[name], weight, bits, group)

    def _of_inputs(self, name: str, ask: Callable[[str], Tensor | None]) -> Tensor | None:
        found, kept = ask(self.origin.get(name, name)), self.kept_channels.get(name)
        if found is None or kept is None:
            return found
        return found[kept][:, kept] if found.dim() == 2 else found[kept]


def bytes_needed(model: nn.Module) -> int:
    """Memory that all facts of a model take: ranks of two bytes and two factors beside each target weight, and H."""
    element_bytes = dtype_of(model).itemsize
    layers = [t for t in targets(model) if t.kind in ("attention", "mlp")]
    inputs = {(t.block, t.shape[1], t.kind) for t in layers}
    return (2 + element_bytes) * sum(t.shape[0] * t.shape[1] for t in layers) + sum(8 * c * c for _, c, _ in inputs)


def _felt_file(file: Path) -> Path:
    return file.with_suffix(".felt.safetensors")


def _write(tensors: Mapping[str, Tensor], file: Path, about: dict[str, str]) -> None:
    with replacing(file) as partial:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata=about)


def release() -> None:
    """Give freed memory back to the system, which malloc keeps otherwise (see `explorer/__init__`)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim:
        trim(0)


def fingerprint(model: nn.Module) -> str:
    """A name for exactly these weights: facts kept under it belong to no other model."""
    digest = sha256(VERSION.encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(memoryview(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()).cast("B"))
    return digest.hexdigest()[:16]
