"""The two places where a rotated model's hidden states meet the words: behind the embedding, before the head. What is
between them is rotated in its weights (see `model.rotate`); these stay, so that a tied table can serve both ends.
"""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from explorer.methods.rotate import orthogonal


class Rotation(nn.Module):
    """x → x Q for rows x (…, width), Q orthogonal, the same for equal widths; `back` is x → x Qᵀ. Inside float32."""

    matrix: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("matrix", orthogonal(width), persistent=False)

    def rotate(self, x: Tensor) -> Tensor:
        return x.float() @ self.matrix.float()

    def back(self, x: Tensor) -> Tensor:
        return x.float() @ self.matrix.float().T

    def around(self, gram: Tensor) -> Tensor:
        """E[x xᵀ] (width, width) → that of the turned x, Qᵀ G Q."""
        return self.rotate(self.rotate(gram).T).T


class RotatedEmbedding(nn.Embedding):
    """Rows of the table as it was, turned."""

    rotation: Rotation

    def forward(self, ids: Tensor) -> Tensor:
        rows = super().forward(ids)
        return self.rotation.rotate(rows).to(rows.dtype)

    @classmethod
    def of(cls, table: nn.Embedding, rotation: Rotation) -> "RotatedEmbedding":
        """The same table; its weight is shared."""
        new = cls(table.num_embeddings, table.embedding_dim, table.padding_idx, device="meta")
        new.weight, new.rotation = table.weight, rotation
        return new


class RotatedNorm(nn.Module):
    """RMSNorm of turned hidden states, turned back before the gains."""

    def __init__(self, norm: Any, rotation: Rotation) -> None:
        super().__init__()
        self.weight, self.variance_epsilon, self.rotation = norm.weight, norm.variance_epsilon, rotation

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.variance_epsilon)
        return self.after((wide * scale).to(x.dtype))

    def after(self, x: Tensor) -> Tensor:
        """What is left to do once turned states are of one size."""
        y: Tensor = self.weight * self.rotation.back(x).to(x.dtype)
        return y

    def inner(self) -> Any:
        """The norm of turned states by itself: gains of one."""
        return SimpleNamespace(weight=torch.ones_like(self.weight), variance_epsilon=self.variance_epsilon)
