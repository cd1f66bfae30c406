"""Families to make smaller, and what a pass over a few tokens tells of them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from explorer.layers.uniform import uniform

BLOCKS, HEAD = 5, 16
SIZES = {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": BLOCKS, "num_attention_heads": 4}
SIZES |= {"max_position_embeddings": 128, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
GQA = SIZES | {
    "hidden_size": 96,
    "intermediate_size": 128,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": HEAD,
}
BUILD: dict[str, Callable[[], nn.Module]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**GQA, tie_word_embeddings=True)),
    "qwen2": lambda: Qwen2ForCausalLM(
        Qwen2Config(**GQA, use_sliding_window=True, sliding_window=8, max_window_layers=2)
    ),
    "gpt2": lambda: uniform(
        GPT2LMHeadModel(
            GPT2Config(vocab_size=300, n_embd=64, n_layer=BLOCKS, n_head=4, n_positions=128, pad_token_id=0)
        )
    ),
    "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, intermediate_size=128)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**SIZES, ffn_dim=128, word_embed_proj_dim=64)),
}
MLP = {"llama": "mlp.down_proj", "qwen2": "mlp.down_proj", "gpt2": "mlp.c_proj", "neox": "mlp.dense_4h_to_h"}
MLP |= {"opt": "fc2"}
EXTREMES = [{"depth": 0.9}, {"width": 0.9}, {"width": 0.9, "width_method": "flap"}]
EVERYTHING: dict[str, Any] = {"depth": 0.4, "width": 0.5, "heads": 0.5}
GROUPED = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 5}
GROUPED |= {"num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 128}
GROUPED |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}


class Seen:
    """What a pass over a few tokens tells of each linear layer's inputs."""

    def __init__(self, model: nn.Module) -> None:
        self.inputs: dict[str, Tensor] = {}
        self.drop_scores = torch.tensor([9.0, 4.0, 1.0, 3.0, 0.0])
        self.angles = torch.rand(6, 6) + 1
        self.angles[1, 3] = 0.1  # blocks 1 and 2 change the least together
        hooks = [
            module.register_forward_pre_hook(self._note(name))
            for name, module in model.named_modules()
            if isinstance(getattr(module, "weight", None), Tensor) and not isinstance(module, nn.Embedding)
        ]
        model(torch.randint(2, 300, (8, 64), generator=torch.Generator().manual_seed(2)))
        for hook in hooks:
            hook.remove()

    def gram(self, name: str) -> Tensor:
        return self.inputs[name].T @ self.inputs[name] / len(self.inputs[name])

    def mean(self, name: str) -> Tensor:
        return self.inputs[name].mean(dim=0)

    def _note(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.inputs[name] = inputs[0].detach().float().flatten(0, -2)

        return hook


def logits(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(ids).logits
    return found


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def possible(family: str) -> dict[str, Any]:
    """Everything at once, but for the heads where a family cannot lose them."""
    return EVERYTHING if family in ("llama", "qwen2") else EVERYTHING | {"heads": 0.0}


def llama_of_five() -> nn.Module:
    """Five blocks without weights."""
    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig(**GROUPED))
