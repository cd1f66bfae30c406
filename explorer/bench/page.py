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
from typing import Any

from playwright.sync_api import Page, sync_playwright

from explorer.values.reading import Reading

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
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
# ms from now until, of a setting other than `before`: its own text begins; its distance is a number; the status line is
# done with the setting that the cards name, so that everything belongs to it
DONE = """before => new Promise(resolve => {
  const line = document.querySelector('#status'), started = performance.now(), found = {};
  const look = () => {
    const setting = document.querySelector('.cards')?.dataset.setting ?? '', now = performance.now() - started;
    if (setting === before) return;
    const pane = document.querySelector('.pane.compressed');
    if (pane?.querySelector('h2').innerText.includes(setting) && pane.querySelector('.text').innerText.length > 1)
      found.text ??= now;
    if (document.querySelector('[data-card=quality] .headline .badge.measured')) found.quality ??= now;
    if (line.querySelector('[data-state=done]') && line.innerText.includes(`s: ${setting}.`)) {
      observer.disconnect(); resolve({...found, all: now});
    }
  };
  const observer = new MutationObserver(look);
  observer.observe(document.body, {subtree: true, childList: true, attributes: true, characterData: true});
  look();
})"""
# the last setting's better figures have all come: nothing on the cards has changed for three seconds
QUIET = """() => new Promise(resolve => {
  let last = setTimeout(resolve, 3000);
  const again = () => { clearTimeout(last); last = setTimeout(resolve, 3000); };
  new MutationObserver(again).observe(document.querySelector('#cards'), {subtree: true, childList: true});
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
        releases, drags = list[dict[str, float]](), []
        for name, share in (("sparsity", 1 / 3), ("sparsity", 2 / 3), ("sparsity", 0.0), ("keep", 0.5), ("keep", 0.75)):
            before = _setting(page)
            _drag(page, name, share)
            releases.append(page.evaluate(DONE, before))
            drags += page.evaluate("window.waits.splice(0)")
        for bits in ("8", "6", "4", "3"):
            before = _setting(page)
            page.locator(f".ticks[data-for=bits] button:text-is('{bits}')").click()
            releases.append(page.evaluate(DONE, before))
        page.evaluate(QUIET)
        loads = {"cold": [_load(browser.new_context().new_page(), address) for _ in range(5)]}
        loads["warm"] = [_load(page, address) for _ in range(5)]
        browser.close()
    return {
        "start_to_page_answers_seconds": answers,
        "start_to_model_ready_seconds": ready,
        "drag_to_size_ms": Reading.timing(drags).to_dict(),
        **{
            f"release_to_{what}_ms": Reading.timing([r[what] for r in releases if what in r]).to_dict()
            for what in ("text", "quality", "all")
        },
        **{
            f"load_{kind}_to_{what}_ms": Reading.timing([times[what] for times in each]).to_dict()
            for kind, each in loads.items()
            for what in ("controls", "numbers")
        },
    }


@contextmanager
def _served(model: str) -> Iterator[tuple[str, float, float]]:
    """(address, seconds until the page answers, seconds until the model is open)."""
    started = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "explorer", "--model", model, "--no-browser"], stdout=subprocess.PIPE, text=True
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


def _load(page: Page, address: str) -> dict[str, float]:
    """ms until the controls can be used, and until the cards hold their numbers."""
    started, found = time.perf_counter(), {}
    page.goto(address, wait_until="commit")
    for what, sign in (("controls", "#sparsity input[type=range]:enabled"), ("numbers", ".cards .headline .number")):
        page.wait_for_selector(sign)
        found[what] = (time.perf_counter() - started) * 1e3
    page.evaluate(QUIET)  # the next one must not wait for this one's model
    return found


def _setting(page: Page) -> str:
    return page.locator(".cards").get_attribute("data-setting") or ""
