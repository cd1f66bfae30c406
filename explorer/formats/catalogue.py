"""The formats that a setting can leave in, and what each makes of it: told from shapes, before anything is made."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from explorer.formats import gguf_mixed
from explorer.formats.blockwise_folder import blockwise_folder
from explorer.formats.folders import Folder, Piece, plain_folder
from explorer.formats.gguf_blocks import type_of
from explorer.formats.gguf_file import GgufFile, gguf_file
from explorer.formats.gguf_settings import settings
from explorer.formats.leaves import Leaf, Structure, kind_of, structure_of
from explorer.formats.packed_folder import ends_of, packed_folder, width_of
from explorer.layers.storage import Quantized
from explorer.layers.targets import text_body
from explorer.model.exporting import tensors_for
from explorer.values.departure import Offer
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

FORMATS = ("explorer", "transformers", "gguf", "compressed-tensors", "bitsandbytes")
OPENED_BY = {
    "explorer": "this program, and three lines of Python",
    "transformers": "transformers, and what opens its folders",
    "gguf": "llama.cpp, Ollama, LM Studio",
    "compressed-tensors": "vLLM, SGLang, transformers",
    "bitsandbytes": "transformers with bitsandbytes",
}
BITS_OF = {"Q4_1": 4, "Q5_1": 5, "Q8_0": 8}


def formats(bench: Workbench, recipe: Recipe, mix: str = "") -> list[Offer]:
    """Every format for one setting of an opened model: what it keeps exactly, what it must round or expand, exact bytes
    of the file with the weights, who opens it; or why it cannot be had. With a `mix` GGUF alone, rounded for its types.
    """
    outline = bench.variants.outline(recipe)
    if mix:
        return [_offer(bench, recipe, outline, "gguf", mix)]
    return [_offer(bench, recipe, outline, name) for name in FORMATS]


def _offer(bench: Workbench, recipe: Recipe, outline: nn.Module, name: str, mix: str = "") -> Offer:
    structure = structure_of(outline, bench.loaded.model)
    try:
        if mix:
            made = mixed_file_of(bench, recipe, outline, structure, mix)
            keeps, others = gguf_mixed.in_words(made)
            count, rounds = made.bytes, "; ".join([*others, *made.said.notes])
        else:
            count, keeps, rounds = TOLD[name](bench, recipe, outline, structure)
    except ValueError as problem:
        return Offer(format=name, grid=mix, opened_by=OPENED_BY[name], problem=str(problem))
    shared_out = recipe not in bench.variants.allotted and "global" in (recipe.scope, recipe.allocate)
    how: Any = "estimated" if shared_out else "calculated"
    told = Reading(value=count, unit="bytes", how=how)
    return Offer(format=name, grid=mix, keeps=keeps, rounds=rounds, bytes=told, opened_by=OPENED_BY[name])


Told = tuple[int, str, str]


def _explorer(_: Workbench, __: Recipe, outline: nn.Module, structure: Structure) -> Told:
    pieces = [
        Piece(name=name, shape=tuple(tensor.shape), dtype=tensor.dtype, data=tensor.clone)
        for name, tensor in tensors_for(outline).items()
    ]
    return Folder(pieces=tuple(pieces), quantization=None, tied=structure.tied).bytes, "everything, as it is stored", ""


def _transformers(_: Workbench, __: Recipe, ___: nn.Module, structure: Structure) -> Told:
    decoded = [leaf for leaf in structure.leaves if leaf.layer is not None or leaf.parts]
    products = sum(not leaf.exact for leaf in structure.leaves)
    rounds = [f"{_matrices(len(decoded))} decoded, so that nothing is saved"] if decoded else []
    rounds += [f"{_matrices(products)} multiplied out and rounded to the model's dtype"] if products else []
    return plain_folder(structure).bytes, "every number that is multiplied by", "; ".join(rounds)


def _gguf(bench: Workbench, recipe: Recipe, outline: nn.Module, structure: Structure) -> Told:
    made = file_of(bench, recipe, outline, structure)
    leaves = {id(entry.leaf): entry.leaf for entry in made.entries if entry.leaf is not None}
    keeps, rounds = blocks_in_words(leaves.values())
    return made.bytes, keeps, "; ".join([*rounds, *made.said.notes])


def blocks_in_words(leaves: Iterable[Leaf]) -> tuple[str, list[str]]:
    """What ggml's blocks keep of matrices, and what becomes otherwise."""
    kept: Counter[str] = Counter()
    other: Counter[str] = Counter()
    for leaf in (part for whole in leaves for part in whole.parts or (whole,)):
        stored, kind = leaf.stored, type_of(leaf)
        if isinstance(stored, Quantized) and kind in BITS_OF:
            if stored.bits == 8:
                other["{} of 8 bits rounded anew in blocks of 32 (Q8_0)"] += 1
            else:
                kept[f"{stored.bits}-bit codes as {kind}"] += 1
                wider = stored.bits != BITS_OF[kind]
                other[f"{{}} of {stored.bits} bits take {kind}'s {BITS_OF[kind]}"] += wider
                other["scale times zero of {} in half precision"] += kind != "Q8_0"
        elif kind in BITS_OF:
            kept["int8 codes as Q8_0"] += 1
            other["scales of {} in half precision"] += 1
        elif leaf.layer is not None and kind_of(stored) == "zeros":
            other["{} with zeros written out, which saves nothing"] += 1
        elif leaf.layer is not None and not leaf.exact:
            other["{} multiplied out in half precision, which saves nothing"] += 1
        elif leaf.layer is not None:
            other["{} decoded: no block of 32 holds such codes or rows"] += 1
        else:
            kept["what is as it was"] += 1
    words = [f"{what} ({_matrices(count)})" for what, count in kept.items()]
    return "; ".join(words), [what.format(_matrices(count)) for what, count in other.items() if count]


def _packed(_: Workbench, __: Recipe, outline: nn.Module, structure: Structure) -> Told:
    made, ends = packed_folder(structure, outline), ends_of(outline)
    rounds = list[str]()
    widths: Counter[str] = Counter()
    for leaf in structure.leaves:
        width, stored = width_of(leaf, ends), leaf.stored
        if width and isinstance(stored, Quantized):
            widths[f"{{}} of {stored.bits} bits take {width}"] += stored.bits != width
        elif leaf.layer is not None:
            widths["{} dense: head and embedding, which vLLM wants so, or no codes alone"] += 1
    rounds += [what.format(_matrices(count)) for what, count in widths.items() if count]
    if len((made.quantization or {})["config_groups"]) > 1:
        rounds.append("several widths, which vLLM opens and transformers does not")
    return made.bytes, "codes, scales and zeros of linear layers", "; ".join(rounds)


def _blockwise(_: Workbench, __: Recipe, outline: nn.Module, structure: Structure) -> Told:
    made = blockwise_folder(structure, outline)
    decoded = sum(leaf.layer is not None and kind_of(leaf.stored) != "blocks" for leaf in structure.leaves)
    rounds = [f"{_matrices(decoded)} decoded"] if decoded else []
    if (made.quantization or {}).get("load_in_8bit"):
        rounds.append("bitsandbytes rounds inputs to 8 bits too, as it runs")
    return made.bytes, "codes and scales as bitsandbytes stores them", "; ".join(rounds)


TOLD: dict[str, Callable[[Workbench, Recipe, nn.Module, Structure], Told]] = {
    "explorer": _explorer,
    "transformers": _transformers,
    "gguf": _gguf,
    "compressed-tensors": _packed,
    "bitsandbytes": _blockwise,
}


def file_of(bench: Workbench, recipe: Recipe, model: nn.Module, structure: Structure) -> GgufFile:
    """The .gguf file of a recipe's model. ValueError in one sentence where there is none."""
    settings(model.config)  # its refusals come first
    base = bench.loaded.model
    ends: Any = getattr(getattr(base, "generation_config", None), "eos_token_id", None)
    ends = ends if isinstance(ends, list) else [bench.loaded.tokenizer.eos_token_id if ends is None else ends]
    owner, _, last = bench.name.rstrip("/").rpartition("/")
    about: dict[str, Any] = {
        "general.name": last.removesuffix(".gguf"),
        "general.tags": ["size-explorer", "text-generation"],
    }
    about |= {"general.description": recipe.words(), "size_explorer.recipe": recipe.to_query() or "original"}
    if owner and "/" not in owner and not owner.startswith((".", "~")):
        about |= {"general.base_model.count": 1, "general.base_model.0.name": last}
        about |= {"general.base_model.0.organization": owner}
        about |= {"general.base_model.0.repo_url": f"https://huggingface.co/{bench.name}"}
    about["ends"] = [each for each in ends if each is not None]
    return gguf_file(structure, model.config, bench.loaded.tokenizer, text_body(model), about)


def mixed_file_of(bench: Workbench, recipe: Recipe, model: nn.Module, structure: Structure, mix: str) -> GgufFile:
    """The same with the types of one of llama.cpp's mixes; its matrices still have to be rounded."""
    gguf_mixed.judged(recipe, mix)
    return gguf_mixed.mixed(file_of(bench, recipe, model, structure), mix, model.config)


def _matrices(count: int) -> str:
    return f"{count} {'matrix' if count == 1 else 'matrices'}"


def proposed(bench: Workbench, recipe: Recipe, megabytes: float, mix: str = "") -> str:
    """A name for what leaves: SmolLM2-135M-Instruct-4bit-gptq-73MB."""
    last = bench.name.rstrip("/").rpartition("/")[2].removesuffix(".gguf")
    parts = ["".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in last).strip("-.") or "model"]
    for name in ("depth", "width", "heads"):
        if getattr(recipe, name):
            parts.append(f"{name}{getattr(recipe, name) * 100:.0f}")
    parts += [f"keep{recipe.keep * 100:.0f}"] if recipe.keep < 1 else []
    parts += [f"zeros{recipe.sparsity * 100:.0f}-{recipe.prune}"] if recipe.sparsity else []
    parts += [f"{recipe.bits}bit-{recipe.quant}"] if recipe.bits < 16 else []
    parts += [f"head{recipe.head_bits}"] if recipe.head_bits < 16 else []
    parts += [mix] if mix else []
    parts += ["rotated"] if recipe.rotate else []
    parts += [f"healed{recipe.heal}"] if recipe.heal else []
    end = f"-{megabytes:.0f}MB"
    return "-".join(parts)[: 64 - len(end)] + end
