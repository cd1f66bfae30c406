"""What each family calls its parts: the config's settings, and the matrices of an MLP and of an attention."""

from typing import Any

from torch import Tensor, nn

WIDTHS = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")  # the config's names for an MLP's width
INPUTS = ("q_proj", "k_proj", "v_proj")
OUTPUTS = ("o_proj", "out_proj", "dense")  # an attention's last matrix, by family


def mlp_of(base: nn.Module, block: str) -> list[str]:
    """Names of the linear layers of a block's MLP, the one that leads back to the residual stream last. ValueError in
    one sentence where it has not one plain MLP."""
    names = [
        f"{block}.{name}"
        for name, module in base.get_submodule(block).named_modules()
        if isinstance(module, nn.Linear) and not in_attention(name)
    ]
    shapes = [matrix_of(base.get_submodule(name)).shape for name in names]
    found: Any = base
    hidden = found.config.get_text_config().hidden_size
    plain = len(names) > 1 and shapes[-1][0] == hidden
    for name, (rows, columns) in zip(names[:-1], shapes[:-1], strict=True):
        whole = 2 * shapes[-1][1] if name.endswith("gate_up_proj") else shapes[-1][1]
        plain = plain and rows == whole and columns == hidden
    if not plain:
        raise ValueError(f"{type(base).__name__} has blocks without one plain MLP, so their width cannot be reduced.")
    return names


def attention_of(base: nn.Module, block: str) -> tuple[str, str, str, str]:
    """Names of the query, key, value and output matrices of a block. ValueError in one sentence where whole heads
    cannot be taken out of them."""
    family = type(base).__name__
    for name, module in base.get_submodule(block).named_modules():
        children = dict(module.named_children())
        output = next((each for each in OUTPUTS if each in children), "")
        if output and set(INPUTS) <= children.keys() and isinstance(children[output], nn.Linear):
            rest = [each for child in children.keys() - {*INPUTS, output} for each in children[child].parameters()]
            if any(matrix_of(children[output]).shape[1] in each.shape for each in rest):
                raise ValueError(f"{family} has norms over all heads at once, so heads cannot be removed.")
            query, key, value = (f"{block}.{name}.{each}" for each in INPUTS)
            return query, key, value, f"{block}.{name}.{output}"
    raise ValueError(
        f"{family} has no separate query, key and value matrices in every block, so heads cannot be removed."
    )


def in_attention(name: str) -> bool:
    return "attn" in name or "attention" in name


def matrix_of(linear: Any) -> Tensor:
    """(outputs, inputs)."""
    weight: Tensor = linear.weight.detach()
    return weight
