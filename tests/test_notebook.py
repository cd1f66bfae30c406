"""The page in the cell of a notebook: a kernel runs the cell, and the page is fetched from outside it."""

import re
import urllib.request
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from transformers import AutoModelForCausalLM, AutoTokenizer

import explorer
from explorer.commands.notebook import Shown
from explorer.model import opening
from explorer.model.preflight import ModelRejected
from explorer.values.recipe import Recipe

ROOT = Path(__file__).parents[1]
WAIT = "while not shown.bench.ready.wait(0.1): assert not shown.bench.problem"
THERE = """from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = AutoModelForCausalLM.from_pretrained({0!r}), AutoTokenizer.from_pretrained({0!r})"""


def fetched(address: str) -> tuple[str, str]:
    """The page's text, and who may show it in a frame."""
    with urllib.request.urlopen(address, timeout=20) as answer:
        return answer.read().decode(), answer.headers["content-security-policy"].rpartition("frame-ancestors ")[2]


def test_a_cell_shows_the_page_of_a_folder_and_of_a_model_that_is_there(folders: dict[str, Path]) -> None:
    folder = str(folders["llama"])
    cells = [
        f"import explorer; shown = explorer.show({folder!r}, height=640)\n{WAIT}\nshown",
        f"{THERE.format(folder)}\nshown.close(); shown = explorer.show(model, tokenizer)\n{WAIT}\nshown",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client: Any = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}})
    with client.setup_kernel():
        for number in range(2):
            cell = client.execute_cell(notebook.cells[number], number)
            html = cell["outputs"][-1]["data"]["text/html"]
            found = re.search(r'<iframe src="(http://127\.0\.0\.1:\d+/)"', html)
            assert found and f'href="{found[1]}"' in html and ("height:640px" in html) == (number == 0)
            text, frames = fetched(found[1])
            assert "Size explorer" in text and frames == "'self' http://localhost:* http://127.0.0.1:*"


def test_a_model_that_is_there_is_shared_and_never_touched(folders: dict[str, Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(folders["gpt2"]).train()
    kinds = {name: type(module) for name, module in model.named_modules()}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ids = torch.arange(12)[None]
    found = opening.adopt(model, AutoTokenizer.from_pretrained(folders["gpt2"]))
    assert torch.equal(found.model(input_ids=ids).logits, model.eval()(input_ids=ids).logits)
    assert found.source == "memory" and not any(p.requires_grad for p in found.model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    assert kinds == {name: type(module) for name, module in model.named_modules()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    shared = found.model.get_input_embeddings().weight
    assert shared.data_ptr() == model.get_input_embeddings().weight.data_ptr()


@pytest.mark.parametrize("given", [("model", "tokenizer"), (torch.nn.Linear(2, 2), "tokenizer")])
def test_what_is_no_model_is_refused_in_a_sentence(given: tuple[Any, Any]) -> None:
    with pytest.raises(ModelRejected, match="is needed|are needed"):
        opening.adopt(*given)
    with pytest.raises(ValueError, match="tokenizer as well"):
        explorer.show(torch.nn.Linear(2, 2))


def test_the_page_of_a_given_model_compresses_and_ends(folders: dict[str, Path]) -> None:
    model, tokenizer = (kind.from_pretrained(folders["llama"]) for kind in (AutoModelForCausalLM, AutoTokenizer))
    shown: Shown = explorer.show(model, tokenizer, device="cpu")
    try:
        assert shown.bench.ready.wait(60) and shown.bench.loaded.source == "memory"
        assert shown.bench.variant(Recipe(bits=4, quant="rtn")).size.compression_ratio.value > 1.3
        assert shown.address in repr(shown)
    finally:
        shown.close()
    with pytest.raises(OSError):
        fetched(shown.address)
