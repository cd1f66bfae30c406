"""The slider state as a value. A recipe says how to make a model smaller; `Recipe()` leaves it as it is.

It knows nothing about tensors or models.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

from explorer.values.exceptions import Matrix, Setting, as_text, exception_of, names_of
from explorer.values.ranges import BITS, BITS_OF, CHOICES, DATA_FREE, RANGES, convert, in_range
from explorer.values.wording import words_of


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to make a model smaller; hashable, and checked on creation (ValueError names the field and its range).

    sparsity: share of the weights set to zero; `prune` scores them, `pattern` n:m leaves n of m neighbours (and so
        fixes the share at a half), `scope` is what they are compared within.
    bits: bits of each stored weight (16 = the reference dtype); `quant` is how the codes are found, `group` how many
        weights along a row share one scale (0 = all; `auto` = all at 8 bits, which have a kernel, else 64),
        `double` stores the scales of nf4 and fp4 in 8 bits.
    keep: share of each matrix's parameters that its two thin factors may hold (1 = not factorized); `factorize` is how
        they are found, `allocate` whether every matrix keeps the same share.
    residual_rank: rank of two thin factors added to every matrix, which mend what pruning and rounding lost.
    depth, width, heads: shares of the blocks, of the MLP's channels and of the attention's groups of heads taken out;
        `depth_by` and `width_by` are how they are chosen.
    head_bits: bits of the embedding and the output head.
    heal: steps of training by knowledge distillation from the original, after all else; `heal_rate` is its learning
        rate as a multiple of the usual one, `heal_seed` decides the order of its texts.
    rotate: hidden states turned by a random rotation that the weights take up, so that rounding to few bits costs less.
    layers: exceptions, each `NAME=bits:4,sparsity:0.5`; protect: names left as they are. A name is a kind (attention,
        mlp, head, embedding, first, last), a layer's name or its end, or a pattern with * and ?.
    """

    sparsity: float = 0.0
    prune: str = "wanda"
    pattern: str = "unstructured"
    scope: str = "row"
    bits: int = 16
    quant: str = "search"
    group: str = "auto"
    double: bool = False
    keep: float = 1.0
    factorize: str = "covariance"
    allocate: str = "uniform"
    residual_rank: int = 0
    depth: float = 0.0
    width: float = 0.0
    heads: float = 0.0
    depth_by: str = "influence"
    width_by: str = "nystrom"
    head_bits: int = 16
    rotate: bool = False
    heal: int = 0
    heal_rate: float = 1.0
    heal_seed: int = 0
    layers: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, range_ in RANGES.items():
            object.__setattr__(self, name, in_range(name, getattr(self, name), range_))
        for name in ("residual_rank", "heal", "heal_seed"):
            if getattr(self, name) != int(getattr(self, name)):
                raise ValueError(f"{name} must be a whole number, not {getattr(self, name):g}.")
            object.__setattr__(self, name, int(getattr(self, name)))
        for name in ("bits", "head_bits"):
            value = getattr(self, name)
            if isinstance(value, bool) or value not in BITS:
                raise ValueError(f"{name} must be one of {', '.join(map(str, BITS))}, not {value!r}.")
            object.__setattr__(self, name, int(value))
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}.")
        for name in ("layers", "protect"):
            object.__setattr__(self, name, names_of(name, getattr(self, name)))
        for name in ("double", "rotate"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, not {getattr(self, name)!r}.")
        exceptions = [exception_of(entry) for entry in self.layers]  # (name, settings): checked here
        self._settle(exceptions)

    def _settle(self, exceptions: list[tuple[str, Mapping[str, float]]]) -> None:
        """One form for one meaning: what has no effect goes back to its default, so that equal settings are one key."""
        plain = {field.name: field.default for field in fields(self)}
        reset: list[str] = []
        if self.pattern != "unstructured":
            object.__setattr__(self, "sparsity", 0.5)
            reset += ["scope"]
        if self.quant in BITS_OF:
            object.__setattr__(self, "bits", BITS_OF[self.quant])
            if self.pruned:
                raise ValueError(f"quant {self.quant} cannot store zeros; choose another method, or no sparsity.")
        dense = not self.pruned
        if dense:
            reset += ["prune", "scope"]
        if self.bits == 16 and not any("bits" in settings for _, settings in exceptions):
            reset += ["quant"] if self.head_bits == 16 else []
            reset += ["residual_rank"] if dense else []
        if self.bits == self.head_bits == 16 and not exceptions:
            reset += ["group"]
        if self.quant not in ("nf4", "fp4"):
            reset += ["double"]
        if not (self.keep < 1 or any("keep" in settings for _, settings in exceptions)):
            reset += ["factorize", "allocate"]
        reset += ["depth_by"] if not self.depth else []
        reset += ["width_by"] if not self.width else []
        whole = dense and self.keep == 1 and self.bits == self.head_bits == 16 and not exceptions
        inside = not dense or self.keep < 1 or self.bits < 16 or exceptions
        reset += ["rotate"] if not inside else []
        reset += ["heal"] if whole and not self.structural else []
        reset += ["heal_rate", "heal_seed"] if "heal" in reset or not self.heal else []
        for name in reset:
            object.__setattr__(self, name, plain[name])

    def setting(self, name: str, kind: str, place: int = -1, places: int = 0, head: str = "") -> Setting:
        """What is asked of one matrix; see `Matrix` for what it is called by."""
        matrix = Matrix(name=name, kind=kind, place=place, places=places, head=head)
        if any(map(matrix.is_meant_by, self.protect)):
            return Setting(protected=True)
        outside = kind in ("embedding", "head")
        values: dict[str, float] = {"bits": self.head_bits} if outside else {}
        if not outside:
            values = {"sparsity": self.sparsity, "bits": self.bits, "keep": self.keep}
        for pattern, settings in map(exception_of, self.layers):
            if matrix.is_meant_by(pattern):
                values |= {k: v for k, v in settings.items() if not outside or k in ("bits", "group")}
        bits = int(values["bits"])
        return Setting(
            sparsity=values.get("sparsity", 0.0),
            bits=bits,
            group=int(values.get("group", self.group_size(bits))),
            keep=values.get("keep", 1.0),
        )

    def group_size(self, bits: int) -> int:
        """Weights per scale at this width; 0 means a whole row."""
        if self.group == "auto":
            return 0 if bits == 8 else 64
        return int(self.group)

    @property
    def structural(self) -> bool:
        """Whether whole blocks, channels or heads go."""
        return self.depth > 0 or self.width > 0 or self.heads > 0

    @property
    def pruned(self) -> bool:
        """Whether some weights are set to zero."""
        return self.sparsity > 0 or any("sparsity" in exception_of(entry)[1] for entry in self.layers)

    @property
    def mends(self) -> bool:
        """Whether the weights that stay make up for the zeros before healing begins, as SparseGPT's do at once."""
        return self.heal > 0 and self.pruned and self.prune != "sparsegpt"

    @property
    def second_order(self) -> bool:
        """Whether errors are handed on from column to column."""
        return self.prune == "sparsegpt" or self.quant == "gptq"

    @property
    def slow(self) -> bool:
        """Whether it takes a method that is too slow to follow a hand: kept on disk once it was worked out."""
        return self.second_order or self.quant in ("awq", "hqq") or self.residual_rank > 0 or self.heal > 0

    @property
    def data_free(self) -> bool:
        """Whether it needs nothing but the weights."""
        plain = self.without_data() == self and self.scope != "global" and self.allocate == "uniform"
        return plain and not (self.structural or self.residual_rank or self.mends)

    def without_data(self) -> "Recipe":
        """The same setting by methods that need the weights only."""
        needs = {"prune": ("magnitude",), "quant": ("rtn", "hqq", "nf4", "fp4", "int8"), "factorize": ("svd",)}
        swaps = {name: DATA_FREE[name] for name, fine in needs.items() if getattr(self, name) not in fine}
        return replace(self, **swaps)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """Build from JSON or a URL query; unknown keys are refused, text becomes numbers."""
        known = {field.name: field.type for field in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"Unknown setting: {', '.join(unknown)}. Known: {', '.join(known)}.")
        return cls(**{name: convert(name, value, known[name]) for name, value in values.items()})

    def to_query(self) -> str:
        """Only what differs from `Recipe()`, as a URL query without the question mark."""
        plain = Recipe()
        changed = {f.name: getattr(self, f.name) for f in fields(self)}
        return urlencode(
            {k: as_text(v) if isinstance(v, tuple) else v for k, v in changed.items() if v != getattr(plain, k)}
        )

    def words(self) -> str:
        """The setting in a few words: `4 bits, 50 % zeros`; a method is named where it is not the default."""
        return words_of(self, Recipe())
