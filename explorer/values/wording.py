"""A recipe in a few words."""

from typing import Any

MANY = 4  # exceptions that are more are counted, not named


def words_of(recipe: Any, plain: Any) -> str:
    """`4 bits, 50 % zeros`; a method is named where it is not that of the plain recipe."""
    parts: list[str] = []

    def share(value: float) -> str:
        return f"{round(value * 100, 1):g} %"

    def named(*names: str) -> str:
        odd = [str(getattr(recipe, n)) for n in names if getattr(recipe, n) != getattr(plain, n)]
        return f" ({', '.join(odd)})" if odd else ""

    parts += [f"{share(recipe.depth)} of the blocks out{named('depth_by')}"] if recipe.depth else []
    parts += [f"{share(recipe.width)} of the MLP out{named('width_by')}"] if recipe.width else []
    parts += [f"{share(recipe.heads)} of the heads out"] if recipe.heads else []
    parts += [f"{share(recipe.keep)} kept in factors{named('factorize', 'allocate')}"] if recipe.keep < 1 else []
    parts += [f"{share(recipe.sparsity)} zeros{named('prune', 'pattern', 'scope')}"] if recipe.sparsity else []
    if recipe.bits < 16:
        parts.append(f"{recipe.bits} bits{named('quant')}{' double' if recipe.double else ''}")
    parts += ["rotated"] if recipe.rotate else []
    parts += [f"head {recipe.head_bits} bits"] if recipe.head_bits < 16 else []
    if recipe.group != "auto" and min(recipe.bits, recipe.head_bits) < 16:
        parts.append("whole rows" if recipe.group == "0" else f"groups of {recipe.group}")
    parts += [f"residual rank {recipe.residual_rank}"] if recipe.residual_rank else []
    if recipe.heal:
        odd = [f"rate {recipe.heal_rate:g}"] if recipe.heal_rate != 1 else []
        odd += [f"seed {recipe.heal_seed}"] if recipe.heal_seed else []
        parts.append(f"healed {recipe.heal} steps" + (f" ({', '.join(odd)})" if odd else ""))
    few = len(recipe.layers) <= MANY
    parts += [f"except {entry}" for entry in recipe.layers] if few else [f"except {len(recipe.layers)} layers"]
    parts += [f"{entry} protected" for entry in recipe.protect]
    return ", ".join(parts) or "original"
