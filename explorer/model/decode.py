"""One token more: a sequence that a model continues, with its cache. transformers' forward reads the prompt, and is the
reference and the fallback; a model of the Llama family goes on in a short step of our own, whose every product is the
same kernel on the same weights. The step is taken only where it was compared with transformers' on a model of the same
family, shapes, settings and kernels.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import SiLUActivation

from explorer.layers.dense import Linear, linear
from explorer.layers.kernels import Kernel, Share
from explorer.layers.linear import CompressedLinear, device_of, dtype_of
from explorer.layers.rotated import RotatedNorm
from explorer.layers.targets import LLAMA_SHAPED
from explorer.model.forward import cache_word, forward
from explorer.native import fused

STATIC_ROPE = ("default", "llama3", "linear")  # tables that do not depend on how long the text became
TOLERANCE = {torch.bfloat16: 0.02, torch.float16: 0.02}  # nats of KL between both ways; float32: 1e-4

Product = Callable[[Tensor], Tensor]
Kind = tuple[Hashable, ...]
_right: dict[Kind, bool] = {}  # whether the step agreed with transformers' on the first model of a kind
_steps: "WeakKeyDictionary[nn.Module, Step | None]" = WeakKeyDictionary()


class Continuation:
    """The tokens so far of one text, or of several that are equally long; `feed` adds some and gives the logits of the
    (first) text's last one, (vocabulary,) float32."""

    def __init__(self, model: nn.Module, own_step: bool = True, step: "Step | None" = None) -> None:
        """`step` is taken instead of the model's own."""
        self.model, self.own_step, self.step = model, own_step, step
        self.cache: Any = None
        self.length = 0
        self._read: Tensor | None = None  # all tokens so far, where the model has no cache
        self._kept: list[Tensor] = []  # keys and values of each block, (texts, groups, room, head)

    @torch.inference_mode()
    def feed(self, ids: Tensor) -> Tensor:
        """ids (texts, tokens); one token after the first ones runs in the own step where the model has one."""
        step = (self.step or step_of(self.model)) if self.own_step and self._further(ids) else None
        if step is not None:
            return self._each(step, ids)[0, -1]
        return self._ahead(ids)[0, -1].float()

    def _ahead(self, ids: Tensor, all_positions: bool = False) -> Tensor:
        """transformers' forward over further ids (texts, tokens): logits of all of them, or of the last ones."""
        new, whole = ids.shape[1], ids
        if self.length and new > 1 and getattr(self.model, "_is_stateful", False):
            # states, unlike keys and values, go on by one token at a time
            return torch.cat([self._ahead(token, all_positions) for token in torch.split(ids, 1, dim=1)], dim=1)
        if not cache_word(self.model):
            whole = self._read = ids if self._read is None else torch.cat([self._read, ids], dim=1)
        logits, self.cache = forward(self.model, whole, self.cache, all_positions)
        self.length += new
        return logits[:, -new:]

    def _further(self, ids: Tensor) -> bool:
        """One token more, or any number once the own step has taken over: transformers' cache lacks what that wrote."""
        return self.length > 0 and (ids.shape[1] == 1 or bool(self._kept))

    def _each(self, step: "Step", ids: Tensor) -> Tensor:
        """Token by token, (texts, tokens, vocabulary) float32."""
        found = []
        for token in torch.split(ids, 1, dim=1):
            found.append(self._own(step, token))
            self.length += 1
        return torch.stack(found, dim=1)

    def _own(self, step: "Step", ids: Tensor) -> Tensor:
        if not self._kept:
            self._kept = [t for layer in self.cache.layers for t in (layer.keys, layer.values)]
        if self.length >= self._kept[0].shape[2]:
            self._kept = [F.pad(t, (0, 0, 0, max(64, self.length))) for t in self._kept]
        return step(ids, self.length, self._kept)


class Batch(Continuation):
    """Texts of one length that a model goes on with all at once."""

    @torch.inference_mode()
    def feed(self, ids: Tensor) -> Tensor:
        """ids (texts, tokens) → the logits behind each of them, (texts, tokens, vocabulary)."""
        step = step_of(self.model) if self._further(ids) else None
        if step is not None:
            return self._each(step, ids)
        return self._ahead(ids, all_positions=True)


class Block(NamedTuple):
    """What one block calls, in turn; `before` and `after` take the residual and what is added to it first. q_norm and
    k_norm are there in Qwen3 only."""

    before: Callable[[Tensor, Tensor], Tensor]
    qkv: Product
    q_norm: Product | None
    k_norm: Product | None
    out: Product
    after: Callable[[Tensor, Tensor], Tensor]
    gate_up: Product
    act: Product
    down: Product


class Step:
    """The decode step of one Llama-shaped model: residual in float32, products in the model's dtype. It holds parts of
    the model, never the model: that is the key under which the step is kept."""

    def __init__(self, model: nn.Module) -> None:
        config: Any = model.config
        body: Any = model.model
        first = body.layers[0].self_attn
        self.rotary: Callable[..., Any] = body.rotary_emb
        self.embed: Product = body.embed_tokens
        self.attend: Callable[..., Tensor] = F.scaled_dot_product_attention
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self._parts = [self.heads, self.groups, self.groups]
        self.size, self.scaling = first.head_dim, first.scaling
        self.dtype = dtype_of(model)
        self.cos = self.sin = torch.empty(0)
        self.compiled = fused.available(next(model.parameters())) and self.size % 2 == 0
        self.blocks = [
            Block(
                self._norm(block.input_layernorm),
                _together([block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj]),
                _norm(block.self_attn.q_norm) if hasattr(block.self_attn, "q_norm") else None,
                _norm(block.self_attn.k_norm) if hasattr(block.self_attn, "k_norm") else None,
                _single(block.self_attn.o_proj),
                self._norm(block.post_attention_layernorm),
                _together([block.mlp.gate_proj, block.mlp.up_proj]),
                self._gate(block.mlp.act_fn),
                _single(block.mlp.down_proj),
            )
            for block in body.layers
        ]
        self.norm = self._norm(body.norm)
        lm_head: Any = model.lm_head
        self.head = _single(lm_head)
        if self.compiled:
            self.mix: Callable[..., Tensor] = fused.Attend(self.heads, self.groups, self.size, self.scaling, self.dtype)

    def _norm(self, module: Any) -> Callable[[Tensor, Tensor], Tensor]:
        """x ← x + y, and its norm in the model's dtype."""
        if isinstance(module, RotatedNorm):
            inner = self._norm(module.inner())
            return lambda x, y: module.after(inner(x, y))
        if self.compiled:
            return fused.Norm(module.weight, module.variance_epsilon, self.dtype)
        norm, dtype = _norm(module), self.dtype
        return lambda x, y: norm(x.add_(y)).to(dtype)

    def _gate(self, act: Any) -> Product:
        """Activation of one half times the other."""
        if self.compiled and isinstance(act, nn.SiLU | SiLUActivation):
            return fused.gate

        def gated(both: Tensor) -> Tensor:
            gate, up = both.chunk(2, dim=1)
            return act(gate).mul_(up)  # type: ignore[no-any-return]

        return gated

    def __call__(self, ids: Tensor, place: int, kept: list[Tensor]) -> Tensor:
        """ids (texts, 1) at position `place`; writes their keys and values into `kept`; logits (texts, vocabulary)
        float32."""
        if place >= len(self.cos):
            self._turn_to(2 * place + 64, ids.device)
        x = self.embed(ids)[:, 0].float()
        more = torch.zeros_like(x, dtype=self.dtype)
        for i, (before, qkv, q_norm, k_norm, out, after, gate_up, act, down) in enumerate(self.blocks):
            mixed = qkv(before(x, more))
            if q_norm and k_norm:
                q, k, v = torch.split(mixed.float().view(len(x), -1, self.size), self._parts, dim=1)
                mixed = torch.cat([q_norm(q), k_norm(k), v], dim=1).to(self.dtype)
            seen = self._attended(mixed.view(len(x), -1), kept[2 * i], kept[2 * i + 1], place)
            more = down(act(gate_up(after(x, out(seen)))))
        logits: Tensor = self.head(self.norm(x, more))
        return logits.float()

    def _attended(self, mixed: Tensor, keys: Tensor, values: Tensor, place: int) -> Tensor:
        """Query, key and value (texts, (heads + 2 groups) · head) → what the heads have seen, (texts, heads · head)."""
        if self.compiled:
            return self.mix(mixed, self.cos[place], self.sin[place], keys, values, place)
        texts, end = mixed.shape[0], place + 1
        mixed = mixed.view(texts, -1, self.size)
        turned = torch.addcmul(mixed * self.cos[place], mixed.roll(self.size // 2, 2), self.sin[place])
        q, k, v = torch.split(turned, self._parts, dim=1)
        keys.select(2, place).copy_(k)
        values.select(2, place).copy_(v)
        query = q.view(texts, self.groups, -1, self.size)  # a group's heads stand as its positions
        seen = self.attend(query, keys.narrow(2, 0, end), values.narrow(2, 0, end), scale=self.scaling)
        return seen.reshape(texts, -1)

    def _turn_to(self, length: int, device: torch.device) -> None:
        """Rotary tables for `length` positions, (length, heads + 2 groups, head): values are turned by nothing, and the
        sign of the half that is turned is folded into the sine."""
        positions = torch.arange(length, device=device)[None]
        cos, sin = (t[0] for t in self.rotary(torch.empty(1, dtype=self.dtype, device=device), positions))
        sin = torch.cat([-sin[:, : self.size // 2], sin[:, self.size // 2 :]], dim=1)
        if self.compiled:
            self.cos, self.sin = cos.float().contiguous(), sin.float().contiguous()
            return
        turned = (length, self.heads + self.groups, self.size)
        still = (length, self.groups, self.size)
        self.cos = torch.cat([cos[:, None].expand(turned), cos.new_ones(still)], dim=1)
        self.sin = torch.cat([sin[:, None].expand(turned), sin.new_zeros(still)], dim=1)


def step_of(model: nn.Module) -> Step | None:
    """The own step of a model, or None where its family has none or the comparison failed; compared once a kind."""
    if model not in _steps:
        _steps[model] = None
        if _recognised(model):
            step, kind = Step(model), _kind(model)
            if kind not in _right:
                _right[kind] = _agrees(model, step)
            _steps[model] = step if _right[kind] else None
    return _steps[model]


def _kind(model: nn.Module) -> Kind:
    """All that the step depends on but the weights: family, shapes and settings, and what multiplies."""
    first = next(model.parameters())
    layers = [layer for layer in model.modules() if isinstance(layer, CompressedLinear)]
    chains = {tuple(map(type, layer.products)) for layer in layers}
    config: Any = model.config
    return config.to_json_string(), first.dtype, first.device, frozenset(chains), frozenset(map(type, model.modules()))


def _recognised(model: nn.Module) -> bool:
    config: Any = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    sliding = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return config.model_type in LLAMA_SHAPED and rope.get("rope_type", "default") in STATIC_ROPE and not sliding


@torch.inference_mode()
def _agrees(model: nn.Module, step: Step) -> bool:
    """Both ways predict the same, up to the rounding of the dtype: transformers' in one pass, ours from the keys and
    values that it left for the tokens before. The median of twelve, since one alone may hang on a rounding."""
    words: int = model.config.vocab_size  # type: ignore[union-attr, operator, assignment]
    ids = ((7919 * torch.arange(28) + 11) % words).view(4, 7).to(device_of(model))
    theirs, ours = Batch(model), Continuation(model)
    right = theirs.feed(ids)[:, 4:].float().log_softmax(-1)
    ours._kept = [t[:, :, :4] for layer in theirs.cache.layers for t in (layer.keys, layer.values)]
    ours.length = 4
    found = ours._each(step, ids[:, 4:]).log_softmax(-1)
    apart = float((right.exp() * (right - found)).sum(dim=-1).median())
    return apart < TOLERANCE.get(step.dtype, 1e-4)


def _together(layers: Sequence[nn.Module]) -> Product:
    """One product for layers with one input, (1, in) → (1, all outputs): with a shared first kernel where they have
    one."""
    chains = [layer.products if isinstance(layer, CompressedLinear) else [] for layer in layers]
    shared = [chain[0].shared for chain in chains if chain and isinstance(chain[0], Share)]
    if len(shared) < len(layers) or any(product is not shared[0] for product in shared):
        singles = [_single(layer) for layer in layers]
        return lambda x: torch.cat([single(x) for single in singles], dim=-1)
    first, rows, rest = shared[0].kernel.forward, shared[0].rows, [_in_turn(chain[1:]) for chain in chains]
    if not any(chain[1:] for chain in chains):
        return first

    def together(x: Tensor) -> Tensor:
        parts = torch.split(first(x), rows, dim=-1)
        return torch.cat([then(part) for then, part in zip(rest, parts, strict=True)], dim=-1)

    return together


def _single(layer: nn.Module) -> Product:
    """A linear layer's product without the module calls around it."""
    if isinstance(layer, CompressedLinear) and layer.products:
        return _in_turn(layer.products)
    if isinstance(layer, nn.Linear) and type(layer) in (nn.Linear, Linear):
        return partial(linear, weight=layer.weight, bias=layer.bias)
    return layer


def _in_turn(kernels: Sequence[Kernel]) -> Product:
    if not kernels:
        return lambda x: x
    first, *rest = [kernel.forward for kernel in kernels]
    if not rest:
        return first
    assert len(rest) == 1  # a branch has one or two factors
    second = rest[0]
    return lambda x: second(first(x))


def _norm(module: Any) -> Product:
    """RMSNorm of float32 rows. One row on a CPU: a dot product and a scaling, half the time of the general operator."""
    weight, eps = module.weight.float(), module.variance_epsilon
    width = weight.shape[0]

    def norm(x: Tensor) -> Tensor:
        if x.numel() > width or x.is_cuda:
            return F.rms_norm(x, (width,), weight, eps)  # type: ignore[no-any-return]
        row = x.view(-1)
        scale: float = (row.dot(row).item() / width + eps) ** -0.5
        return (x * scale).mul_(weight)

    return norm
