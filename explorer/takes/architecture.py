"""The dimensions of a decoder-only language model, and what follows from them by arithmetic alone: how many weights
it has, where they are, and which of them a token meets. Nothing is allocated; whole numbers throughout."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Norm = Literal["rms", "layer", "none"]
QueryKeyNorm = Literal["none", "head", "width"]
VECTORS = {"rms": 1, "layer": 2, "none": 0}  # RMSNorm has a gain; LayerNorm a gain and a bias; OLMo's has neither


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Dimensions of one decoder. Widths in elements, context in tokens; `experts` is 0 where the MLP is one.

    `norms` counts those in one layer; `window` is how far back the `windowed` layers look (their cache ends there);
    `table_width` is the width of the word table where it differs from the hidden one (OPT-350m).
    """

    layers: int
    hidden: int
    intermediate: int  # of one expert
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    tied: bool = False
    gated: bool = True
    norm: Norm = "rms"
    norms: int = 2
    final_norm: bool = True
    table_norm: bool = False
    query_key_norm: QueryKeyNorm = "none"
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    positions: int = 0  # rows of a learned position table
    table_width: int = 0
    experts: int = 0
    active_experts: int = 0
    window: int = 0
    windowed: int = 0

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise ValueError("the key-value heads must divide the attention heads evenly.")
        if not 0 <= self.active_experts <= self.experts or bool(self.experts) != bool(self.active_experts):
            raise ValueError("a token must meet at least one expert, and no more than there are.")
        if self.windowed > self.layers:
            raise ValueError("there cannot be more windowed layers than layers.")

    @property
    def query_width(self) -> int:
        return self.heads * self.head_size

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_size

    @property
    def expert_matrices(self) -> int:
        """Weights of one expert's matrices in one layer (the whole MLP where there are no experts)."""
        return (3 if self.gated else 2) * self.hidden * self.intermediate

    @property
    def shared_matrices(self) -> int:
        """Weights of the matrices that every token meets in one layer: attention, and the router of the experts."""
        attention = self.hidden * (2 * self.query_width + 2 * self.kv_width)
        return attention + self.hidden * self.experts

    @property
    def table(self) -> int:
        """Weights of the word table."""
        return self.vocabulary * (self.table_width or self.hidden)

    @property
    def head(self) -> int:
        """Weights of the output head of its own; 0 where it is the word table."""
        return 0 if self.tied else self.table

    @property
    def projections(self) -> int:
        """Weights between a narrow word table and the hidden width, in and out."""
        return 2 * self.hidden * self.table_width

    @cached_property
    def vectors(self) -> int:
        """Norms and biases of the whole model."""
        norm = VECTORS[self.norm] * self.hidden
        layer = self.norms * norm
        layer += (self.query_width + 2 * self.kv_width) * self.qkv_bias + self.hidden * self.out_bias
        mlp = self.intermediate * (2 if self.gated else 1) + self.hidden
        layer += mlp * max(self.experts, 1) * self.mlp_bias
        layer += {"none": 0, "head": 2 * self.head_size, "width": self.query_width + self.kv_width}[self.query_key_norm]
        return self.layers * layer + norm * (self.final_norm + self.table_norm) + self.vocabulary * self.head_bias

    @property
    def matrices(self) -> int:
        """Weights of all matrices between the word table and the head: what weight compression works on."""
        return self.layers * (self.shared_matrices + max(self.experts, 1) * self.expert_matrices) + self.projections

    @property
    def active_matrices(self) -> int:
        """Those of them that one token is multiplied with."""
        met = self.active_experts or 1
        return self.layers * (self.shared_matrices + met * self.expert_matrices) + self.projections

    @property
    def routers(self) -> int:
        """Weights that send tokens to experts."""
        return self.layers * self.hidden * self.experts

    @property
    def rows(self) -> int:
        """Outputs of all matrices but the routers, word table and head among them."""
        mlp = (2 if self.gated else 1) * self.intermediate + self.hidden
        layer = self.query_width + 2 * self.kv_width + self.hidden + max(self.experts, 1) * mlp
        narrow = self.hidden + self.table_width if self.table_width else 0
        return self.layers * layer + narrow + self.vocabulary * (1 if self.tied else 2)

    @property
    def full_width(self) -> int:
        """Weights kept at 16 bits whatever the matrices' bits: positions, norms, biases, routers."""
        return self.positions * self.hidden + self.vectors + self.routers

    def matrices_met(self, batch: int) -> float:
        """Expected weights of the matrices that a step of `batch` tokens reads: every expert is as likely as another,
        so one is left unread with probability (1 - active / experts) ** batch."""
        if not self.experts:
            return float(self.matrices)
        met = self.experts * (1 - (1 - self.active_experts / self.experts) ** batch)
        return self.layers * (self.shared_matrices + met * self.expert_matrices) + self.projections

    def attended(self, context: int) -> int:
        """Tokens looked at by all layers together for one further token: windowed layers stop at their window."""
        return (self.layers - self.windowed) * context + self.windowed * min(context, self.window)


def parameters(architecture: Architecture) -> int:
    """All weights, a tied head counted once."""
    own = architecture
    return own.matrices + own.table + own.head + own.positions * own.hidden + own.vectors


def active_parameters(architecture: Architecture) -> int:
    """The weights that one token meets: with experts, only those it is sent to."""
    return parameters(architecture) - architecture.matrices + architecture.active_matrices
