"""A compressed model as a folder: packed tensors, the recipe, what was measured, and a card. Read back and compared.

The folder appears whole or not at all: everything is written beside it first and renamed in one step.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from explorer import assets
from explorer.layers.dense import Linear
from explorer.layers.experts import stacks_of
from explorer.layers.storage import tensors_of
from explorer.model.compressing import settle, skeleton
from explorer.model.disk import save_tensors
from explorer.model.loaders import generation_of
from explorer.model.memory import check_memory
from explorer.model.opening import open_tokenizer, structure
from explorer.model.plan import Allotment
from explorer.model.preflight import ModelRejected, check_folder, refusing
from explorer.values.recipe import Recipe

FORMAT, VERSION = "size-explorer", 1
LONGEST_NAME = 255  # bytes, of the usual file systems


About = tuple[Recipe, Allotment, str]  # the recipe, what was allotted to single matrices, the name of the original


def write(model: nn.Module, about: About, tokenizer: Any, metrics: dict[str, Any], folder: Path) -> int:
    """Write an unsettled model to `folder`, which must not exist; the bytes of its tensors in the file.

    A model that only lost blocks, channels or heads is a plain one: transformers opens the folder without this program.

    ValueError for a folder that cannot be used, ModelRejected where what was written does not read back the same.
    """
    recipe, allotted, base = about
    check_new(folder)
    tensors = {n: t.detach().cpu().contiguous() for n, t in tensors_for(model).items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(t.numel() * t.element_size() for t in tensors.values())
    if shutil.disk_usage(folder.parent).free < 1.1 * needed + 20_000_000:
        raise ValueError(f"The export needs {needed / 1e6:,.0f} MB of disk, and there is less free.")
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name[:40]}.partial-", dir=folder.parent))
    try:
        save_tensors(tensors, partial / "model.safetensors", {"format": "pt"})
        (partial / "model.safetensors").chmod(0o644)
        model.config.save_pretrained(partial)  # type: ignore[union-attr, operator]
        if getattr(model, "generation_config", None) is not None:  # its end tokens, above all
            _write_json(partial / "generation_config.json", model.generation_config.to_diff_dict())  # type: ignore[union-attr, operator]
        tokenizer.save_pretrained(partial)
        described = {"format": FORMAT, "version": VERSION, "base_model": base, "recipe": recipe.to_dict()}
        described["allotted"] = {"kept": dict(allotted.kept), "rank": dict(allotted.rank)}
        _write_json(partial / "recipe.json", described)
        _write_json(partial / "checksums.json", {name: checksum(t) for name, t in sorted(tensors.items())})
        _write_json(partial / "metrics.json", metrics)
        (partial / "README.md").write_text(card(recipe, base, metrics), encoding="utf-8")
        again = load_file(partial / "model.safetensors")
        if again.keys() != tensors.keys() or not all(torch.equal(again[k], tensors[k]) for k in tensors):
            raise ModelRejected("export", "The export did not read back the same; nothing was kept.")
        partial.chmod(0o755)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return needed


def check_new(folder: Path) -> None:
    """ValueError where this cannot be the name of a new folder: it exists, or the file system does not take it."""
    name = folder.name
    if name in ("", "..") or any(ord(sign) < 32 for sign in name) or len(os.fsencode(name)) > LONGEST_NAME:
        raise ValueError(f"{name[:40]!r} cannot be a folder's name here.")
    if folder.exists():
        raise ValueError(f"{folder} exists already; choose another name, nothing is overwritten.")


def tensors_for(model: nn.Module) -> dict[str, Tensor]:
    """What the file of an unsettled model holds, by name."""
    return _as_transformers(model, tensors_of(model))


def is_export(folder: Path) -> bool:
    return (folder / "recipe.json").is_file()


def described(folder: Path) -> tuple[Recipe, Allotment]:
    """The recipe of an export, and what was allotted to its matrices. ModelRejected in one sentence."""
    try:
        about = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
        if about.get("format") != FORMAT or about.get("version") != VERSION:
            raise ModelRejected("export", f"{folder.name} is not an export that this version can open.")
        return Recipe.from_dict(about["recipe"]), _allotted(about.get("allotted", {}))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, ModelRejected):
            raise
        raise ModelRejected("export", f"recipe.json in {folder.name} cannot be used: {error}") from None


def base_of(folder: Path) -> str:
    """The name that the original of an export was opened by."""
    about = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    return str(about.get("base_model", ""))


def read(folder: Path) -> tuple[nn.Module, Any, Recipe]:
    """Open an export: the model on its kernels, its tokenizer and its recipe. ModelRejected in one sentence."""
    files = check_folder(folder)
    check_memory(3 * files.tensor_bytes)
    recipe, allotted = described(folder)
    with refusing("export", f"The config in {folder.name} cannot be used"):
        base = structure(folder)
    with torch.device("meta"):  # whatever the file says, nothing is allocated for it
        model = skeleton(base, recipe, allotted)
    with refusing("export", f"The weights in {folder.name} cannot be read"):
        whole = load_file(folder / "model.safetensors")
    tensors = _from_transformers(model, whole)
    expected = {name: (t.shape, t.dtype) for name, t in model.state_dict().items()}
    if any(expected.get(name) != (t.shape, t.dtype) for name, t in tensors.items()):
        raise ModelRejected("export", f"The tensors in {folder.name} do not fit its recipe.")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelRejected("not-finite", f"{folder.name} is damaged: {name} holds values that are not numbers.")
    twins = _twins(model)
    missing, _ = model.load_state_dict(tensors, strict=False, assign=True)
    for name, stack in stacks_of(model).items():
        stack.put_together(whole.get(name), whole.get(f"{name}_bias"))
    for name in missing:
        twin = next((other for other in twins.get(name, ()) if other in tensors), "")
        if twin:
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, _named(model, twin))
    state = model.state_dict()
    loaded = {t.data_ptr() for name, t in state.items() if name in tensors}
    if any(t.is_meta for t in state.values()) or any(state[name].data_ptr() not in loaded for name in missing):
        raise ModelRejected("export", f"The tensors in {folder.name} do not fit its recipe.")
    _check_sums(folder, whole)  # last, so that what does not fit is called so
    model.generation_config = generation_of(folder) or model.generation_config
    return settle(model).eval().requires_grad_(False), open_tokenizer(folder), recipe


def checksum(tensor: Tensor) -> str:
    """SHA-256 of a tensor's bytes as the file holds them."""
    return hashlib.sha256(tensor.contiguous().view(-1).view(torch.uint8).numpy().data).hexdigest()


def _check_sums(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Refuse tensors that are not those that were written; those of 0.8 have no checksums."""
    if not (folder / "checksums.json").is_file():
        return
    with refusing("export", f"checksums.json in {folder.name} cannot be used"):
        sums = dict(json.loads((folder / "checksums.json").read_text(encoding="utf-8")))
    other = sorted(name for name, tensor in tensors.items() if sums.get(name) != checksum(tensor))
    if other or sums.keys() - tensors.keys():
        name = (other or sorted(sums.keys() - tensors.keys()))[0]
        raise ModelRejected("checksum", f"{folder.name} is damaged: {name} is not what was written.")


def _twins(model: nn.Module) -> dict[str, list[str]]:
    """By name, the names that the same tensor has: a file holds shared memory once."""
    names: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    return {name: shared for shared in names.values() for name in shared if len(shared) > 1}


def _named(model: nn.Module, name: str) -> Tensor:
    owner, _, leaf = name.rpartition(".")
    return getattr(model.get_submodule(owner), leaf)  # type: ignore[no-any-return]


def _as_transformers(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is left as it was lies in a file as its family has it: GPT-2's matrices the other way round, experts
    together."""
    tensors = _turned(model, tensors)
    for name, stack in stacks_of(model).items():
        if stack.whole is not None:
            tensors = {key: t for key, t in tensors.items() if not key.startswith(f"{name}.")} | stack.fused(name)
    return tensors


def _from_transformers(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same by the names that a model's modules have here."""
    tensors = _turned(model, tensors)
    for name, stack in stacks_of(model).items():
        tensors = {k: t for k, t in tensors.items() if k not in (name, f"{name}_bias")} | stack.cut(name, tensors)
    return tensors


def _turned(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    layers = (name for name, module in model.named_modules() if type(module) is Linear and module.transposed)
    turned = {f"{name}.weight" for name in layers}
    return {name: tensor.T.contiguous() if name in turned else tensor for name, tensor in tensors.items()}


def _allotted(values: Any) -> Allotment:
    """Whole numbers by name, none negative; ValueError otherwise."""
    found = {part: values.get(part, {}) for part in ("kept", "rank")}
    for numbers in found.values():
        if not all(isinstance(n, str) and type(v) is int and 0 <= v < 2**40 for n, v in numbers.items()):
            raise ValueError("what was allotted to single matrices is not whole numbers by name.")
    return Allotment(**found)


def card(recipe: Recipe, base: str, metrics: dict[str, Any]) -> str:
    """The model card: what it is, how it was made, what was measured, how to open it, limits."""
    size, quality = metrics.get("size", {}), metrics.get("quality") or {}
    rows = [
        ("file", f"{size.get('file_bytes', 0) / 1e6:.1f} MB"),
        ("compression ratio", f"{size.get('compression_ratio', 1):.2f}"),
        ("kept parameters", f"{size.get('parameters', 0):,}"),
    ]
    if quality:
        rows += [
            ("KL to the original", f"{quality['kl']:.4f} nats over {quality['tokens']:,} tokens"),
            ("perplexity", f"{quality['perplexity']:.2f} (original {quality['perplexity_original']:.2f})"),
        ]
    return assets.read("model_card.md").format(
        base=base,
        words=recipe.words(),
        recipe=json.dumps(recipe.to_dict(), indent=2),
        table="\n".join(f"| {name} | {value} |" for name, value in rows),
    )


def _write_json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
