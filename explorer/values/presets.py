"""Recipes with a name: the page's buttons, and the scenes of present mode."""

from collections.abc import Mapping

from explorer.values.recipe import Recipe

PRESETS: Mapping[str, Recipe] = {
    "Original": Recipe(),
    "Half": Recipe(bits=8, head_bits=8),
    "Quarter": Recipe(bits=4, head_bits=6, group="32"),
    "Smallest that still reads": Recipe(bits=4, head_bits=4),
    "Too far": Recipe(sparsity=0.5, bits=2, head_bits=4, quant="rtn"),
}
