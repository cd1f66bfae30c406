"""The model card of what leaves: what it is, how it was made, what was measured and what calculated, how to open it."""

import hashlib
import json
import re
import shlex
from pathlib import Path

from explorer import assets
from explorer.studies.session import arguments_of
from explorer.values.departure import Check, Offer
from explorer.values.measurement import Measurement
from explorer.values.reading import Reading
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

OPENING = {
    "explorer": "```python\nimport explorer\nmodel, tokenizer, recipe = explorer.load(FOLDER)\nmodel(**tokenizer("
    '"Hello", return_tensors="pt")).logits\n```\n\n`size-explorer generate --model FOLDER --prompt "Hello"` writes '
    "with it. The format is described in the explorer's docs/FORMAT.md.",
    "transformers": '`AutoModelForCausalLM.from_pretrained(FOLDER, dtype="auto")` opens it.',
    "gguf": "`llama-cli -m FILE.gguf`, or `ollama create NAME -f Modelfile`.",
    "compressed-tensors": "`vllm serve FOLDER`, or transformers with `pip install compressed-tensors`.",
    "bitsandbytes": "`AutoModelForCausalLM.from_pretrained(FOLDER)` with `pip install bitsandbytes`.",
}
LICENCE = re.compile(r"^(license(?:_name|_link)?):[ \t]*([\w .:/+-]{1,200})$", re.MULTILINE)


def card(bench: Workbench, known: Measurement, offer: Offer, check: Check | None) -> str:
    """Markdown with a front matter that the Hub reads."""
    said = licence_of(bench.loaded.folder)
    front = [f"base_model: {json.dumps(bench.name)}", "base_model_relation: quantized"]
    front += [f"{key}: {value}" for key, value in said.items()]
    rows = [*_measured(known), *(_checked(check, offer) if check else [])]
    texts = json.dumps(bench.texts, sort_keys=True).encode()
    return assets.read("export_card.md").format(
        front="\n".join(front),
        base=bench.name,
        words=", ".join(filter(None, [offer.grid, known.recipe.words() if known.recipe != Recipe() else ""]))
        or "original",
        format=offer.format,
        opened_by=offer.opened_by,
        keeps=offer.keeps or "–",
        rounds=offer.rounds or "nothing",
        recipe=json.dumps(known.recipe.to_dict(), indent=2),
        table="\n".join(f"| {name} | {value} | {how} |" for name, value, how in rows),
        opening=OPENING[offer.format],
        command=command(bench, known.recipe, offer),
        calibration=hashlib.sha256(json.dumps(assets.texts("calibration"), sort_keys=True).encode()).hexdigest()[:16],
        evaluation=hashlib.sha256(texts).hexdigest()[:16],
        licence=f"The licence is the original's: {said['license']}."
        if said
        else "The licence is that of the original.",
    )


def command(bench: Workbench, recipe: Recipe, offer: Offer) -> str:
    """What to type to make it again."""
    words = ["size-explorer export", "--model", shlex.quote(bench.name), arguments_of(recipe)]
    words += [f"--format {offer.format}", f"--quant {offer.grid}" if offer.grid else ""]
    return " ".join(filter(None, words))


def licence_of(folder: Path) -> dict[str, str]:
    """What the original's own card says of its licence; nothing where it says nothing."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")[:10_000]
    except (OSError, UnicodeDecodeError):
        return {}
    front = text.split("\n---", 1)[0] if text.startswith("---") else ""
    found = {key: value.strip() for key, value in LICENCE.findall(front)}
    return found if "license" in found else {}


def _measured(known: Measurement) -> list[tuple[str, str, str]]:
    size, quality = known.size, known.quality
    rows: list[tuple[str, str, str]] = [
        ("tensors as the explorer stores them", _bytes(size.file_bytes), size.file_bytes.how),
        ("compression ratio", f"{size.compression_ratio.value:.2f}", size.compression_ratio.how),
        ("kept parameters", f"{size.parameters.value:,.0f}", size.parameters.how),
    ]
    if quality:
        per, before = quality.perplexity, quality.perplexity_original
        rows += [
            ("KL to the original", f"{_interval(quality.kl)} nats over {quality.tokens:,} tokens", quality.kl.how),
            ("perplexity", f"{per.value:.2f} (original {before.value:.2f})", per.how),
        ]
    return rows


def _checked(check: Check, offer: Offer) -> list[tuple[str, str, str]]:
    against = "unrounded" if offer.grid else "variant"
    rows: list[tuple[str, str, str]] = [
        ("this file", _bytes(check.bytes), check.bytes.how),
        (f"KL to the {against}, opened by {check.opened_by}", f"{_interval(check.kl)} nats", check.kl.how),
        (
            f"first greedy tokens that are the {against}'s",
            f"{check.greedy.value:.0f} of {check.greedy.n}",
            check.greedy.how,
        ),
    ]
    if check.texts:
        rows.append(("texts that become the same tokens", f"{check.texts.value:.0f} of {check.texts.n}", "measured"))
    return rows


def _interval(reading: Reading) -> str:
    known = reading.low is not None and reading.high is not None
    return f"{reading.value:.4f}" + (f" ({reading.low:.4f} to {reading.high:.4f})" if known else "")


def _bytes(reading: Reading) -> str:
    return f"{reading.value / 1e6:,.2f} MB"
