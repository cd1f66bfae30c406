"""How fast the page answers, as a visitor meets it: `app.py` in its own process, driven in Chromium.

Needs playwright and a Chromium (the `test` extra); `bench` leaves this part out where they are missing.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from explorer.records import Reading

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
APP = Path(__file__).resolve().parent.parent / "app.py"
# An input counts as answered when the cards name the slider's value. Observers, not polling: a browser that polls takes
# a core from the model.
WATCH = """() => { window.waits = []; let moved = null;
  document.addEventListener('input', event => {
    if (event.target.type === 'range') moved = {at: performance.now(), slider: event.target};
  }, true);
  const settled = () => {
    const setting = document.querySelector('.cards')?.dataset.setting ?? '';
    const value = moved && `${moved.slider.value} %`;
    if (moved && (setting.includes(value) || !setting.includes('%') && ['0 %', '100 %'].includes(value))) {
      window.waits.push(performance.now() - moved.at); moved = null;
    }
  };
  const observer = new MutationObserver(settled);
  observer.observe(document.querySelector('#cards'), {subtree: true, childList: true, attributes: true});
}"""
# everything belongs to a setting once the status line is done with the one that the cards name, and that is a new one
DONE = """before => new Promise(resolve => {
  const line = document.querySelector('#status'), started = performance.now();
  const look = () => {
    const setting = document.querySelector('.cards')?.dataset.setting ?? '';
    if (setting !== before && line.querySelector('[data-state=done]') && line.innerText.includes(`s: ${setting}.`)) {
      observer.disconnect(); resolve(performance.now() - started);
    }
  };
  const observer = new MutationObserver(look);
  observer.observe(line, {subtree: true, childList: true, attributes: true, characterData: true});
  look();
})"""


def run(model: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Start to page, drag to calculated size, release to everything; times of one visitor on a quiet machine."""
    say("The page: start, drag, release.")
    with _served(model) as (address, answers, ready), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.goto(address)
        page.wait_for_selector(".status", timeout=60_000)
        page.evaluate(DONE, "")
        page.evaluate(WATCH)
        releases, drags = [], []
        for name, share in (("sparsity", 1 / 3), ("sparsity", 2 / 3), ("sparsity", 0.0), ("keep", 0.5), ("keep", 0.75)):
            before = _setting(page)
            _drag(page, name, share)
            releases.append(_until_done(page, before))
            drags += page.evaluate("window.waits.splice(0)")
        for bits in ("8", "6", "4", "3"):
            before = _setting(page)
            page.locator("#bits").get_by_test_id(f"{bits}-radio-label").click()
            releases.append(_until_done(page, before))
        browser.close()
    return {
        "start_to_page_answers_seconds": answers,
        "start_to_model_ready_seconds": ready,
        "drag_to_size_ms": Reading.timing(drags).to_dict(),
        "release_to_everything_seconds": Reading.timing(releases, "s").to_dict(),
    }


@contextmanager
def _served(model: str) -> Iterator[tuple[str, float, float]]:
    """(address, seconds until the page answers, seconds until the model is open)."""
    started = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, str(APP), "--model", model], cwd=APP.parent, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout
        address, answers = "", 0.0
        for line in server.stdout:
            found = re.search(r"http://\S+", line)
            if found:
                address, answers = found[0], time.perf_counter() - started
            if line.startswith("Opened"):
                break
        yield address, answers, time.perf_counter() - started
    finally:
        server.terminate()
        server.wait(20)


def _drag(page: Page, name: str, share: float) -> None:
    box = page.locator(f"#{name} input[type=range]").bounding_box()
    place = float(page.locator(f"#{name} input[type=range]").evaluate("e => (e.value - e.min) / (e.max - e.min)"))
    assert box
    x, y, width = box["x"] + 8, box["y"] + box["height"] / 2, box["width"] - 16
    page.mouse.move(x + width * place, y)
    page.mouse.down()
    for step in range(1, 13):
        page.mouse.move(x + width * (place + (share - place) * step / 12), y)
        page.wait_for_timeout(90)
    page.mouse.up()


def _until_done(page: Page, before: str) -> float:
    """Seconds until the status line says that a setting other than `before` is done."""
    started = time.perf_counter()
    page.evaluate(DONE, before)
    return time.perf_counter() - started


def _setting(page: Page) -> str:
    return page.locator(".cards").get_attribute("data-setting") or ""
