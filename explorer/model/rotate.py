"""rotate(base) → the same model with turned hidden states: every gain of a block's norms goes into the weights behind
it, every matrix that reads the residual stream is turned on its inputs, every one that writes it on its outputs. What
comes out predicts the same, up to rounding; what is lost when it is rounded further is another matter.
"""

import copy
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from explorer.layers.rotated import RotatedEmbedding, RotatedNorm, Rotation
from explorer.layers.targets import LLAMA_SHAPED
from explorer.model.facts import Facts

READS = {
    "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
}  # a block's norms, and the matrices behind each
WRITES = ("self_attn.o_proj", "mlp.down_proj")
LEAST_GAIN = 1e-6  # a smaller one, in facts of what came in before it was taken out again


class RotatedFacts(Facts):
    """Facts of a rotated model, from those of the model as it was. `gains`: what the norm before a matrix that is
    turned on its inputs multiplied by, (columns,)."""

    def __init__(self, base: Facts, rotation: Rotation, gains: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.base, self.rotation, self.gains = base, rotation, gains
        self.tokens = base.tokens

    def gram(self, name: str) -> Tensor | None:
        return self._around(name, self.base.gram)

    def calibrated(self, name: str) -> bool:
        return self.base.calibrated(name)

    def met(self, name: str) -> int:
        return self.base.met(name)

    def felt_gram(self, name: str) -> Tensor | None:
        return self._around(name, self.base.felt_gram)

    def mean(self, name: str) -> Tensor:
        found = self.base.mean(name)
        return self.rotation.rotate(found / self.gains[name]) if name in self.gains else found

    def mean_size(self, name: str) -> Tensor | None:
        """Of turned inputs by their power: a sum of many is normal, and then E|x| = √(2/π · E[x²])."""
        power = self.importance(name) if name in self.gains else None
        return self.base.mean_size(name) if power is None else (2 / torch.pi * power).clamp(min=0).sqrt()

    def _around(self, name: str, ask: Callable[[str], Tensor | None]) -> Tensor | None:
        found, gain = ask(name), self.gains.get(name)
        return found if found is None or gain is None else self.rotation.around(found / gain / gain[:, None])


@torch.no_grad()
def rotate(base: nn.Module, facts: Facts) -> tuple[nn.Module, Facts]:
    """(the rotated model, facts of it); the base is not touched, and shares what does not change. On the meta device
    only the modules change. ValueError for a family whose hidden states cannot be turned."""
    model = with_rotated_ends(base)
    body: Any = model.model
    rotation, gains = body.norm.rotation, dict[str, Tensor]()
    for place, block in enumerate(body.layers):
        for norm_name, readers in READS.items():
            norm = block.get_submodule(norm_name)
            gain = norm.weight.detach().float()
            norm.weight = nn.Parameter(torch.ones_like(norm.weight), requires_grad=False)
            for name in readers:
                _put(block.get_submodule(name), rotation.rotate(_weight(block.get_submodule(name)) * gain))
                gains[f"model.layers.{place}.{name}"] = torch.where(gain.abs() < LEAST_GAIN, LEAST_GAIN, gain)
        for name in WRITES:
            layer: Any = block.get_submodule(name)
            _put(layer, rotation.rotate(_weight(layer).T).T)
            if layer.bias is not None:
                turned_bias = rotation.rotate(layer.bias.detach()).to(layer.bias.dtype)
                layer.bias = nn.Parameter(turned_bias, requires_grad=False)
    return model, RotatedFacts(facts, rotation, gains)


def with_rotated_ends(base: nn.Module) -> nn.Module:
    """The modules of a rotated model over the base's tensors; the base itself where it is one already."""
    config: Any = base.config
    if config.model_type not in LLAMA_SHAPED:
        raise ValueError(f"Rotation needs a model of Llama's build; {type(base).__name__} is another.")
    body: Any = base.model
    if isinstance(body.norm, RotatedNorm):
        return base
    model: Any = copy.deepcopy(base, {id(t): t for t in chain(base.parameters(), base.buffers())})
    rotation = Rotation(config.hidden_size)
    model.model.embed_tokens = RotatedEmbedding.of(model.model.embed_tokens, rotation)
    model.model.norm = RotatedNorm(model.model.norm, rotation)
    return model  # type: ignore[no-any-return]


def _weight(layer: Any) -> Tensor:
    found: Tensor = layer.weight.detach().float()
    return found


def _put(layer: Any, new: Tensor) -> None:
    layer.weight = nn.Parameter(new.to(layer.weight.dtype).contiguous(), requires_grad=False)
