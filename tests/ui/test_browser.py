"""The page in Chromium: a slider is dragged, the size follows, both texts appear, and nothing leaves this machine."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

pytestmark = pytest.mark.browser

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
FLAGS += ["--disable-component-update", "--disable-sync"]
ROOT = Path(__file__).parents[2]
SHIFTS = """() => { window.shift = 0; new PerformanceObserver(list => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({type: 'layout-shift', buffered: true}); }"""


@pytest.fixture(scope="module")
def address(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`python app.py` as a user starts it, on the tiny model."""
    cache = tmp_path_factory.mktemp("browser-cache")
    environment = {**os.environ, "SIZE_EXPLORER_CACHE": str(cache)}
    command = [sys.executable, "app.py", "--model", str(folders["llama"])]
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        line = next(line for line in server.stdout if "http://" in line)
        found = re.search(r"http://\S+", line)
        assert found
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with urllib.request.urlopen(found[0], timeout=10) as answer:
                if answer.status == 200:
                    break
        yield found[0]
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no Chromium at {CHROMIUM}")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page that fails its test on any error, outside request, or layout that jumps."""
    tab = browser.new_page(viewport={"width": 1366, "height": 768}, reduced_motion="reduce")
    problems: list[str] = []
    tab.on("pageerror", lambda error: problems.append(f"page error: {error}"))
    tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    tab.on("request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else problems.append(r.url))
    tab.add_init_script(f"({SHIFTS})()")
    tab.set_default_timeout(30_000)
    yield tab
    wide = (tab.viewport_size or {"width": 0})["width"] > 1200
    shift = tab.evaluate("window.shift")
    tab.close()
    assert problems == []
    assert shift < (0.05 if wide else 0.3)


def opened(page: Page, address: str, query: str = "") -> Page:
    """Calibrated and settled: the tiny model takes a few seconds for both."""
    page.goto(address + query)
    expect(page.locator(".calibration[data-done='1.00']")).to_be_visible(timeout=90_000)
    done(page)
    return page


def done(page: Page) -> None:
    expect(page.locator(".status[data-state=done]")).to_be_visible(timeout=60_000)


def headline(page: Page, card: str) -> str:
    return page.locator(f"[data-card={card}] .headline .number").inner_text()


def drag(page: Page, name: str, share: float) -> None:
    page.locator(f"#{name}").scroll_into_view_if_needed()
    box = page.locator(f"#{name} input[type=range]").bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 8, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 8 + (box["width"] - 16) * share, y, steps=12)
    page.mouse.up()


def test_dragging_a_slider_changes_the_size_and_writes_both_texts(page: Page, address: str) -> None:
    opened(page, address)
    before = headline(page, "size")
    drag(page, "sparsity", 0.6)
    expect(page.locator("[data-card=size] .headline .number")).not_to_have_text(before)
    expect(page.locator(".cards")).to_have_attribute("data-setting", re.compile(r"\d0 % zeros|\d5 % zeros"))
    done(page)
    expect(page.locator(".pane.compressed h2")).to_contain_text("% zeros")
    for side in ("original", "compressed"):
        assert len(page.locator(f".pane.{side} .text").inner_text()) > 3
    assert headline(page, "time").endswith("ms") and headline(page, "memory").endswith("MB")
    assert "sparsity=0." in page.url


def test_arrow_keys_and_choices_work_like_the_mouse(page: Page, address: str) -> None:
    opened(page, address)
    page.locator("#keep input[type=range]").focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    expect(page.locator(".cards")).to_have_attribute("data-setting", "80 % kept in factors")
    done(page)
    page.locator("#bits label").filter(has_text="4").click()
    expect(page.locator(".cards")).to_have_attribute("data-setting", "80 % kept in factors, 4 bits (rtn)")
    done(page)
    expect(page.locator(".pane.compressed h2")).to_contain_text("80 % kept in factors, 4 bits")


def test_a_preset_and_the_way_back_give_the_original_again(page: Page, address: str) -> None:
    opened(page, address)
    original = headline(page, "size")
    page.get_by_role("button", name="Quarter").click()
    expect(page.locator(".cards")).to_have_attribute("data-setting", "4 bits, head 6 bits, groups of 32")
    done(page)
    page.get_by_role("button", name="Original").click()
    expect(page.locator(".cards")).to_have_attribute("data-setting", "original")
    done(page)
    assert headline(page, "size") == original and headline(page, "quality") == "0.0000"
    assert page.locator(".pane mark").count() == 0


def test_a_link_brings_its_setting_back(page: Page, address: str) -> None:
    setting = "50 % zeros (magnitude), 3 bits (rtn)"
    opened(page, address, "?bits=3&quant=rtn&sparsity=0.5&prune=magnitude&__theme=dark")
    expect(page.locator(".cards")).to_have_attribute("data-setting", setting)
    page.reload()
    done(page)
    expect(page.locator(".cards")).to_have_attribute("data-setting", setting)
    expect(page.locator("#sparsity input[type=range]")).to_have_value("50")


def test_leaving_a_page_at_work_is_no_error(page: Page, address: str) -> None:
    for bits in (2, 3, 2):
        page.goto(f"{address}?bits={bits}&quant=rtn")
        expect(page.locator(".status")).to_be_visible()
        page.wait_for_timeout(500)
    opened(page, address)


def test_methods_and_structure_are_behind_one_door(page: Page, address: str) -> None:
    opened(page, address)
    page.get_by_role("button", name="Methods, structure, layers").click()
    drag(page, "depth", 0.6)
    expect(page.locator(".cards")).to_have_attribute("data-setting", re.compile("of the blocks out"))
    done(page)
    assert "depth=0." in page.url
    page.get_by_role("button", name="Original").click()
    expect(page.locator(".cards")).to_have_attribute("data-setting", "original")
    done(page)
    page.locator("#level label").filter(has_text="best").click()
    page.locator("#bits label").filter(has_text="4").click()
    expect(page.locator(".cards")).to_have_attribute("data-setting", "4 bits (gptq)")
    done(page)


def test_the_numbers_in_full_name_statistics_slices_and_parts(page: Page, address: str) -> None:
    opened(page, address, "?bits=4")
    page.locator("#detail button").first.click()
    page.get_by_role("button", name="Compare on more text").click()
    expect(page.locator("#numbers-table .parts")).to_be_visible(timeout=60_000)
    expect(page.locator("#numbers-table .statistics tbody")).to_contain_text("Mean KLD")
    expect(page.locator("#numbers-table .slices tbody tr")).to_have_count(6)
    done(page)


def test_speed_in_full_fills_its_tables_and_stop_ends_it(page: Page, address: str) -> None:
    opened(page, address, "?bits=4")
    page.locator("#detail button").first.click()
    page.get_by_role("button", name="Measure speed").click()
    expect(page.locator("#speed-table .limits tbody")).to_contain_text("roofline", timeout=60_000)
    page.get_by_role("button", name="Stop").click()
    expect(
        page.locator(".status:is([data-state=stopped], [data-state=done])")
    ).to_be_visible()  # a tiny model may be done first


def test_the_layer_table_names_every_layer(page: Page, address: str) -> None:
    opened(page, address, "?bits=4")
    page.locator("#detail button").first.click()
    page.get_by_role("button", name="Measure every layer").click()
    expect(page.locator("#layer-table .each tbody tr")).to_have_count(14, timeout=30_000)
    expect(page.locator("#layer-table .each tbody tr").first).to_contain_text("measured")


def test_nonsense_in_an_exception_is_one_plain_sentence(page: Page, address: str) -> None:
    opened(page, address)
    page.get_by_role("button", name="Methods, structure, layers").click()
    page.wait_for_timeout(2000)  # until the first run has refined its numbers, whose last view comes twice
    page.locator("#layers textarea, #layers input").fill("mlp=colour:red")
    page.keyboard.press("Enter")
    expect(page.locator(".status[data-state=error]")).to_contain_text("layers must read NAME=bits:4")


def test_stop_stops(page: Page, address: str) -> None:
    opened(page, address)
    page.locator("#length input").fill("400")
    page.get_by_role("button", name="Write").click()
    expect(page.locator(".status[data-state=busy]")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".status[data-state=stopped]")).to_be_visible()


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=\"document.title='x'\">",
        "${document.title='x'}",
        "{{value}} `${document.title='x'}`",
    ],
)
def test_hostile_prompts_stay_text(page: Page, address: str, text: str) -> None:
    opened(page, address)
    page.locator("#prompt textarea").fill(text)
    before = page.locator(".pane.original .text").inner_text()
    page.get_by_role("button", name="Write").click()
    expect(page.locator(".pane.original .text")).not_to_have_text(before)
    done(page)
    assert page.title() != "x" and page.locator(".pane img").count() == 0


def test_the_plot_shows_every_setting_tried(page: Page, address: str) -> None:
    opened(page, address, "?bits=4")
    expect(page.locator("#plot .main-svg").first).to_be_visible()
    names = page.evaluate("document.querySelector('#plot .plot').data.map(trace => trace.name)")
    assert {"original", "now", "tried"} <= set(names)


def test_a_lesson_asks_and_shows_only_then(page: Page, address: str) -> None:
    done(opened(page, address))
    page.wait_for_timeout(1000)  # whoever leaves while more text is read cuts a stream, and the browser says so
    page.get_by_role("link", name="Fewer bits").click()
    done(page)
    expect(page.locator(".lesson")).to_contain_text("1 of 3")
    expect(page.locator(".lesson .then")).to_have_count(0)
    page.wait_for_timeout(1000)
    page.get_by_role("link", name="half", exact=True).click()
    expect(page.locator(".lesson .then")).to_contain_text("Just so")
    done(page)
    expect(page.locator(".cards")).to_have_attribute("data-setting", re.compile("^8 bits"))
    page.wait_for_timeout(1000)


def test_present_mode_is_one_key_and_scenes_are_others(page: Page, address: str) -> None:
    done(opened(page, address))
    page.locator("#prompt textarea").press("p")
    expect(page.locator("html")).not_to_have_class(re.compile("present"))
    page.locator("h1").click()
    page.keyboard.press("p")
    expect(page.locator("html")).to_have_class(re.compile("present"))
    expect(page.locator("#controls")).to_be_hidden()
    page.get_by_role("button", name="Prepare scenes").click()
    expect(page.locator(".status")).to_contain_text("All scenes are recorded", timeout=60_000)
    page.locator("h1").click()
    for key, words in (("3", "4 bits"), (" ", "4 bits"), ("1", "original")):
        page.keyboard.press(key)
        expect(page.locator(".status")).to_contain_text("Recorded at")
        expect(page.locator(".cards")).to_have_attribute("data-setting", re.compile(words))
    page.keyboard.press("p")
    expect(page.locator("#controls")).to_be_visible()


def test_word_by_word_and_the_blind_test_answer(page: Page, address: str) -> None:
    done(opened(page, address, "?bits=3&quant=rtn"))
    page.locator("#detail > button").click()
    page.locator("#word-by-word").click()
    expect(page.locator(".heat")).to_contain_text("first where the two would say")
    expect(page.locator(".null")).to_contain_text("same text")
    done(page)
    page.get_by_role("tab", name="Blind test").click()
    page.locator("#blind-pair").click()
    expect(page.locator(".pair .pane")).to_have_count(2)
    page.locator("#blind-b").click()
    expect(page.locator("#blind-table .layers")).to_contain_text("3 bits")


def test_a_rival_is_opened_compared_and_drawn(page: Page, address: str, folders: dict[str, Path]) -> None:
    done(opened(page, address, "?bits=4"))
    page.locator("#detail > button").click()
    page.get_by_role("tab", name="Start small instead?").click()
    page.locator("#rival-name input, #rival-name textarea").fill(str(folders["gpt2"]))
    page.locator("#meet-rival").click()
    expect(page.locator("#rival-table .verdicts p")).to_have_count(3, timeout=60_000)
    for name in (str(folders["gpt2"]), "original", "4 bits"):
        expect(page.locator("#rival-table .rival tbody")).to_contain_text(name)
    expect(page.locator(".status")).to_contain_text("Compared with")
    page.wait_for_function("document.querySelector('#plot .plot').data.some(trace => trace.name === 'rival')")


def tab_to(page: Page, selector: str, most: int = 90) -> None:
    """Presses Tab until the focus is there, and sees that it shows."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            shows = page.evaluate(
                """() => { const at = document.activeElement, near = [at, at.parentElement, at.nextElementSibling];
                  return near.filter(Boolean).some(e => { const s = getComputedStyle(e);
                    return s.outlineStyle !== 'none' || s.boxShadow !== 'none'; }); }"""
            )
            assert shows, f"the focus on {selector} cannot be seen"
            return
    raise AssertionError(f"Tab never reaches {selector}")


def test_a_whole_visit_by_keyboard_alone(page: Page, address: str) -> None:
    """Preset, sliders, methods, prompt, numbers in full, blind test and a lesson, without a pointer."""
    done(opened(page, address))
    cards, press = page.locator(".cards"), page.keyboard.press
    tab_to(page, ".presets button:nth-of-type(2)")
    press("Enter")
    expect(cards).to_have_attribute("data-setting", re.compile("8 bits"))
    done(page)
    tab_to(page, "#sparsity input[type=range]")
    for _ in range(4):
        press("ArrowRight")
    expect(cards).to_have_attribute("data-setting", re.compile("20 % zeros"))
    tab_to(page, "#bits input:checked")
    press("ArrowRight")
    expect(cards).to_have_attribute("data-setting", re.compile("20 % zeros.*, 6 bits"))
    tab_to(page, "#more > button")
    press("Enter")
    tab_to(page, "#depth input[type=range]")
    press("End")
    expect(cards).to_have_attribute("data-setting", re.compile("of the blocks out"))
    done(page)
    tab_to(page, "#prompt textarea")
    press("ControlOrMeta+a")
    page.keyboard.type("the dog")
    tab_to(page, "#write, #write button")
    press("Enter")
    expect(page.locator(".status[data-state=busy]")).to_be_visible()
    done(page)
    tab_to(page, "#detail > button")
    press("Enter")
    tab_to(page, "#measure-numbers, #measure-numbers button")
    press("Enter")
    expect(page.locator("#numbers-table .statistics")).to_be_visible(timeout=60_000)
    done(page)
    for _ in range(6):
        press("Shift+Tab")
        if page.evaluate("document.activeElement.innerText") == "Blind test":
            break
    press("Enter")
    tab_to(page, "#blind-pair, #blind-pair button")
    press("Enter")
    expect(page.locator(".pair .pane")).to_have_count(2)
    page.keyboard.press("Escape")
    tab_to(page, "a[href*='lesson=bits']", 200)
    press("Enter")
    expect(page.locator(".lesson")).to_contain_text("1 of 3")
    done(page)
    page.wait_for_timeout(1000)


@pytest.mark.parametrize("size", [(1366, 768), (1024, 768), (390, 844)])
def test_nothing_scrolls_sideways(page: Page, address: str, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    opened(page, address)
    width, height = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert width <= size[0]
    if size == (1366, 768):
        assert height <= size[1]


@pytest.mark.parametrize("query", ["bits=4", "present=1", "lesson=bits&guess=2"])
@pytest.mark.parametrize("theme, width", [("light", 1366), ("dark", 1366), ("light", 390)])
def test_no_serious_accessibility_problem(page: Page, address: str, theme: str, width: int, query: str) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    opened(page, address)  # calibrated, which present mode does not tell
    page.goto(f"{address}?__theme={theme}&{query}")
    done(page)
    found = Axe().run(page).response["violations"]
    serious = [
        (v["id"], [n["target"] for n in v["nodes"]][:3]) for v in found if v["impact"] in ("serious", "critical")
    ]
    assert serious == []
