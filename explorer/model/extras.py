"""Tensors in a file that no text is written with: tables that are worked out anew, layers that only training or
guessing ahead needs. They are left out, and named; what else a model does not know is refused (see `whole`)."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from explorer.model.preflight import ModelFiles

KINDS = {  # in words: what their names look like
    "tables of rotations": r"(.*\.)?rotary_emb\.(inv_freq|original_inv_freq|cos_cached|sin_cached)",
    "tensors for guessing several tokens": r"(model\.)?mtp(_\w+)?\..*",
    "tensors of a judge from training": r"(v_head|value_head)\..*",
}
MASK = re.compile(r"(?:.*\.)?(?:attn|attention)\.(?:masked_)?bias")
LAYER = re.compile(r"(?:.*\.)?layers\.(\d+)\.(.*)")
AHEAD = ("eh_proj.", "enorm.", "hnorm.", "shared_head.", "embed_tokens.")  # what only layers that guess ahead have


def left_out(files: ModelFiles, model: Any, unexpected: Iterable[str]) -> dict[str, list[str]]:
    """Names by kind of what an opened model leaves out and does not miss: some of what transformers reports as
    unexpected, and what it drops without a word."""
    config = model.config.get_text_config()
    dropped = [re.compile(each) for each in model._keys_to_ignore_on_load_unexpected or ()]
    found: dict[str, list[str]] = {}
    for name in sorted({*_absent(files, model), *unexpected}):
        kind = next((kind for kind, looks in KINDS.items() if re.fullmatch(looks, name)), "")
        if not kind and _is_mask(name, files, config):
            kind = "masks of attention"
        if not kind and _is_ahead(name, files, config):
            kind = "tensors for guessing several tokens"
        if not kind and any(each.search(name) for each in dropped):
            kind = "tensors of other uses"
        if kind:
            found.setdefault(kind, []).append(name)
    return found


def note(found: Mapping[str, list[str]]) -> str:
    """One sentence that names what is left out, '' where nothing is."""
    counts = {
        kind: f"{len(names)}, such as {names[0]}" if len(names) > 1 else names[0] for kind, names in found.items()
    }
    parts = [f"{kind} ({which})" for kind, which in counts.items()]
    return f"Left out, since nothing is written with them: {'; '.join(parts)}." if parts else ""


def untie(model: Any) -> str:
    """Make the config say that the head is a tensor of its own, where the file holds one; the sentence for it."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    configs = [model.config, model.config.get_text_config()]
    says_tied = any(getattr(config, "tie_word_embeddings", False) for config in configs)
    if head is None or not says_tied or getattr(head, "weight", None) is getattr(embedding, "weight", None):
        return ""
    for config in configs:
        config.tie_word_embeddings = False
    return "The output head is a matrix of its own in the file, though the config says that it is the embedding."


def _absent(files: ModelFiles, model: Any) -> list[str]:
    """Names in the file under which the model has nothing; some are only called otherwise."""
    prefix = f"{model.base_model_prefix}."
    known = model.state_dict().keys()
    return [n for n in files.names if not {n, prefix + n, n.removeprefix(prefix)} & known]


def _is_mask(name: str, files: ModelFiles, config: Any) -> bool:
    """A triangle of context × context, or the one number that hides."""
    context = getattr(config, "max_position_embeddings", None) or 0
    return bool(MASK.fullmatch(name)) and name in files.tensors and files.tensors[name][2] in (1, context**2)


def _is_ahead(name: str, files: ModelFiles, config: Any) -> bool:
    """Of a layer behind the last one, where the config speaks of such layers or it has parts that no other has: a
    config that gives too few layers would else cut a model short."""
    layer, count = LAYER.fullmatch(name), getattr(config, "num_hidden_layers", None)
    if not layer or not isinstance(count, int) or int(layer[1]) < count:
        return False
    more = getattr(config, "num_nextn_predict_layers", None) or 0
    own = name.removesuffix(layer[2])
    parts = tuple(own + part for part in AHEAD)
    return int(layer[1]) < count + more or any(each.startswith(parts) for each in files.names)
