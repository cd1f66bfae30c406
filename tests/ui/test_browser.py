"""The page in Chromium: a slider is dragged, the size follows, both texts appear, and nothing leaves this machine."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright
from tokenizers import Regex, Tokenizer, decoders

pytestmark = pytest.mark.browser
expect.set_options(timeout=60_000)  # a slow machine may work for long at what is expected

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

# The page itself clicks Stop as soon as text comes: from outside it can take until all is written.
CLICKS_STOP = """() => new MutationObserver((_, seen) => {
  if (!document.querySelector('#status').innerText.includes('writing')) return;
  seen.disconnect();
  document.querySelector('#stop').click();
}).observe(document.querySelector('#status'), {subtree: true, childList: true, characterData: true})"""
# The page itself opens a door, types into what is behind it as soon as that is there, and clicks in the same moment.
TYPES_AT_ONCE = """async ([door, fields, button]) => {
  const doors = [...document.querySelectorAll('button:is([role=tab], .label-wrap)')];
  if (door) doors.find(b => b.innerText.trim().startsWith(door)).click();
  const late = performance.now() + 10000, found = () => fields.map(([field]) => document.querySelector(field));
  while (!found().every(Boolean) && performance.now() < late) await new Promise(go => setTimeout(go));
  for (const [i, input] of found().entries()) {
    Object.getOwnPropertyDescriptor(Object.getPrototypeOf(input), 'value').set.call(input, fields[i][1]);
    input.dispatchEvent(new Event('input', {bubbles: true}));
  }
  document.querySelector(button).click();
}"""
SERVED: set[str] = set()  # addresses that pages may ask
SERVERS: list[psutil.Process] = []
STREAMS: dict[Page, set[Request]] = {}  # on which each page hears of what the server's queue does for it


@pytest.fixture(scope="module")
def model(folders: dict[str, Path]) -> Path:
    """The tiny model, or the folder that BROWSER_MODEL names: the same visits on a real one."""
    return Path(os.environ.get("BROWSER_MODEL", folders["llama"]))


@pytest.fixture(scope="module")
def address(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(model, tmp_path_factory.mktemp("browser-cache")) as found:
        yield found


@contextmanager
def served(model: Path, cache: Path) -> Iterator[str]:
    """The address of `python app.py` as a user starts it."""
    environment = {**os.environ, "SIZE_EXPLORER_CACHE": str(cache)}
    command = [sys.executable, "app.py", "--model", str(model)]
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        line = next(line for line in server.stdout if "http://" in line)
        found = re.search(r"http://\S+", line)
        assert found
        SERVED.add(found[0])
        SERVERS.append(psutil.Process(server.pid))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with urllib.request.urlopen(found[0], timeout=10) as answer:
                if answer.status == 200:
                    break
        yield found[0]
    finally:
        SERVERS[:] = [each for each in SERVERS if each.pid != server.pid]
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
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails its test on any error, outside request, or layout that jumps."""
    tab = browser.new_page(viewport={"width": 1366, "height": 768}, reduced_motion="reduce")
    problems: list[str] = []
    tab.on("pageerror", lambda error: problems.append(f"page error: {error}"))
    tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    tab.on("request", lambda r: None if r.url.startswith((*SERVED, "data:", "blob:")) else problems.append(r.url))
    tab.add_init_script(f"({SHIFTS})()")
    tab.set_default_timeout(60_000)
    streams: set[Request] = set()
    tab.on("request", lambda r: streams.add(r) if "/queue/data" in r.url else None)
    tab.on("requestfinished", lambda r: streams.discard(r))
    tab.on("requestfailed", lambda r: streams.discard(r))
    STREAMS[tab] = streams
    yield tab
    wide = (tab.viewport_size or {"width": 0})["width"] > 1200
    shift = tab.evaluate("window.shift")
    tab.close()
    assert problems == []
    assert shift < (0.05 if wide else 0.3)


def opened(page: Page, address: str, query: str = "") -> Page:
    """Calibrated and settled: the tiny model takes a few seconds for both."""
    page.goto(address + query)
    expect(page.locator(".calibration[data-done='1.00']")).to_be_visible(timeout=180_000)
    done(page)
    return page


def done(page: Page) -> None:
    expect(page.locator(".status[data-state=done]")).to_be_visible()


def settled(page: Page) -> None:
    """All that was asked for has ended, better figures and what stood in the queue included. Of several asks within a
    frame gradio's client now and then leaves a stream open through which nothing comes any more: the server rests."""
    started = time.monotonic()
    while STREAMS[page]:
        waited = time.monotonic() - started
        if waited > 10 and rests(page):
            return
        assert waited < 60, "the server's work for this page does not end"
        page.wait_for_timeout(50)


def rests(page: Page) -> bool:
    """Whether no server worked for a second."""
    before = [sum(server.cpu_times()[:2]) for server in SERVERS]
    page.wait_for_timeout(1000)
    return all(sum(server.cpu_times()[:2]) - was < 0.2 for server, was in zip(SERVERS, before, strict=True))


def stays_stopped(page: Page, selector: str) -> None:
    """Whatever was at work has ended with Stop's word, and in three seconds neither it nor `selector` changes."""
    expect(page.locator(".status[data-state=stopped]")).to_be_visible()
    settled(page)
    before = page.locator(selector).inner_text()
    page.wait_for_timeout(3000)
    expect(page.locator(".status")).to_have_attribute("data-state", "stopped", timeout=1)
    assert page.locator(selector).inner_text() == before


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


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
        page.keyboard.press("ArrowRight")  # less lies to the right
    expect(page.locator(".cards")).to_have_attribute("data-setting", "80 % kept in factors")
    done(page)
    page.locator(".ticks[data-for=bits] button:text-is('4')").click()
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
        expect(page.locator(".status:is([data-state=busy], [data-state=done])")).to_be_visible()
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
    page.locator(".ticks[data-for=bits] button:text-is('4')").click()
    expect(page.locator(".cards")).to_have_attribute("data-setting", "4 bits (gptq)")
    done(page)


def test_the_numbers_in_full_name_statistics_slices_and_parts(page: Page, address: str) -> None:
    opened(page, address, "?bits=4")
    page.locator("#detail button").first.click()
    page.get_by_role("button", name="Compare on more text").click()
    expect(page.locator("#numbers-table .parts")).to_be_attached(timeout=120_000)
    expect(page.locator("#numbers-table .statistics tbody")).to_contain_text("Mean KLD")
    expect(page.locator("#numbers-table .slices tbody tr")).to_have_count(6)
    done(page)


def test_speed_in_full_fills_its_tables_and_stop_ends_it(page: Page, address: str) -> None:
    opened(page, address, "?bits=4")
    page.locator("#detail button").first.click()
    page.get_by_role("button", name="Measure speed").click()
    expect(page.locator("#speed-table .limits tbody")).to_contain_text("roofline")
    page.get_by_role("button", name="Stop").click()
    stays_stopped(page, "#speed-table")


def test_stop_ends_what_stands_in_the_queue_too(page: Page, address: str) -> None:
    opened(page, address, "?bits=4")
    settled(page)
    page.locator("#detail button").first.click()
    page.get_by_role("button", name="Measure speed").click()  # takes long however often it was done
    expect(page.locator(".status[data-state=busy]")).to_be_visible()
    page.get_by_role("button", name="Compare on more text").click()
    page.get_by_role("button", name="Stop").click()
    stays_stopped(page, "#detail")
    expect(page.locator("#numbers-table table")).to_have_count(0, timeout=1)


def test_the_layer_table_names_every_layer(page: Page, address: str) -> None:
    opened(page, address, "?bits=4")
    page.locator("#detail button").first.click()
    page.get_by_role("button", name="Measure every layer").click()
    expect(page.locator("#layer-table .each tbody tr")).to_have_count(14)
    expect(page.locator("#layer-table .each tbody tr").first).to_contain_text("measured")


def test_nonsense_in_an_exception_is_one_plain_sentence(page: Page, address: str) -> None:
    opened(page, address, "?layers=mlp=bits:8")
    settled(page)  # the last view of better figures would talk over what is wrong
    page.get_by_role("button", name="Methods, structure, layers").click()
    layers = page.locator("#layers textarea, #layers input")
    expect(layers).to_have_value("mlp=bits:8")  # a control gets its value a moment after it is first seen
    layers.fill("mlp=colour:red")
    page.keyboard.press("Enter")
    expect(page.locator(".status[data-state=error]")).to_contain_text("layers must read NAME=bits:4")


def test_what_is_typed_counts_at_once_and_stays(page: Page, address: str) -> None:
    opened(page, address)
    sent: list[str] = []
    page.on("request", lambda r: sent.append(r.post_data or "") if r.method == "POST" else None)
    text, number = ":is(input, textarea)", "input[type=number]"
    takes = [(f"#takes-context {number}", "4321", 4321), (f"#takes-traffic {number}", "77", 77)]
    for door, button, fields in (
        ("", "#write", [(f"#{name} {number}", "7", 7) for name in ("length", "seed", "temperature")]),
        ("", "#write", [(f"#prompt {text}", "the dog", "the dog")]),
        ("Methods", "#write", [(f"#layers {text}", "mlp=bits:8", "mlp=bits:8"), (f"#depth {number}", "50", 50)]),
        ("In full", "#write", []),
        ("Start small", "#meet-rival", [(f"#rival-name {text}", "no/such", "no/such")]),
        ("The best under", "#find-best", [(f"#budget-{name} {number}", "0.5", 0.5) for name in ("size", "ms", "kl")]),
        ("Large or small", "h1", takes),
    ):
        sent.clear()
        page.evaluate(TYPES_AT_ONCE, [door, [field[:2] for field in fields], button])
        page.wait_for_timeout(500)
        for field, shown, value in fields:
            expect(page.locator(field)).to_have_value(shown, timeout=1)
            assert any(value in json.loads(body)["data"] for body in sent), f"{field} was not sent"
        page.locator("#stop").click()
        settled(page)


def test_a_name_typed_into_a_list_counts_where_it_is_left(page: Page, address: str) -> None:
    opened(page, address)
    page.locator("#detail > button").click()
    page.get_by_role("tab", name="Large or small: what it takes").click()
    for name, shown in (("falcon-7b", "falcon-7b"), ("no such", "not in the catalogue")):
        page.locator("#takes-second input").fill(name)
        page.locator("h1").click()
        expect(page.locator("#takes-table")).to_contain_text(shown)


def test_stop_stops(page: Page, address: str) -> None:
    opened(page, address, "?bits=4")
    settled(page)
    page.locator("#prompt textarea").fill("the dog")  # after which neither ends its answer by itself
    page.locator("#length input").fill("400")
    page.evaluate(CLICKS_STOP)
    page.get_by_role("button", name="Write").click()
    stays_stopped(page, "#panes")
    for side in ("original", "compressed"):
        expect(page.locator(f".pane.{side} .detail")).not_to_contain_text("400 tokens")


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


def test_a_hostile_model_runs_nothing(page: Page, model: Path, tmp_path: Path) -> None:
    """Its folder's name, every text that it writes and the name of a rival are markup with a script; all stay text."""
    evil = "<img src=x onerror=\"document.title='x'\">"
    bad = tmp_path / evil
    shutil.copytree(model, bad)
    tokenizer = Tokenizer.from_file(str(bad / "tokenizer.json"))
    tokenizer.decoder = decoders.Sequence([tokenizer.decoder, decoders.Replace(Regex("[a-z]"), evil)])
    tokenizer.save(str(bad / "tokenizer.json"))
    with served(bad, tmp_path / "cache") as address:
        opened(page, address, "?bits=4")
        expect(page.locator(".pane.compressed .text")).to_contain_text(evil)
        page.locator("#detail > button").click()
        page.locator("#word-by-word").click()
        expect(page.locator(".heat")).to_contain_text(evil)
        done(page)
        page.get_by_role("tab", name="Start small instead?").click()
        page.locator("#rival-name input, #rival-name textarea").fill(str(bad))
        page.locator("#meet-rival").click()
        expect(page.locator("#rival-table, .status[data-state=error]").first).to_contain_text(evil)
        done(page)
        assert page.title() != "x" and page.locator("img[src=x]").count() == 0
        page.goto("about:blank")  # before the server goes


def test_a_server_that_goes_ends_what_open_pages_listen_to(model: Path, tmp_path: Path) -> None:
    with served(model, tmp_path / "cache") as address:
        stream = urllib.request.urlopen(f"{address}gradio_api/heartbeat/visit", timeout=60)
    assert b"ALIVE" in stream.read()  # an IncompleteRead where the line is cut


def test_the_plot_shows_every_setting_tried(page: Page, address: str) -> None:
    opened(page, address, "?bits=4")
    page.get_by_role("button", name="Quarter").click()
    page.wait_for_function(
        """() => { const traces = document.querySelector('#plot size-picture')?.drawing.data ?? [];
          const [tried, now] = ['tried', 'now'].map(name => traces.find(t => t.name === name)?.customdata ?? []);
          return tried.some(q => q.startsWith('bits=4')) && now.length === 1 && now[0].includes('head_bits=6'); }"""
    )
    expect(page.locator("#plot path.point").nth(2)).to_be_visible()  # the original and these two
    done(page)


def test_a_point_of_the_plot_opens_its_setting_and_keeps_the_rest_of_the_address(page: Page, address: str) -> None:
    page.add_init_script("delete window.requestIdleCallback")  # which Safari lacks
    opened(page, address, "?bits=4&hide=heads&__theme=dark")
    page.get_by_role("button", name="Original").click()
    expect(page.locator(".cards")).to_have_attribute("data-setting", "original")
    done(page)
    settled(page)
    for point in page.locator("#plot path.point").all():
        box = point.bounding_box()
        assert box
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        expect(page.locator("#plot .hovertext")).to_be_visible()
        setting = page.evaluate("document.querySelector('#plot size-picture').drawing._hoverdata[0].customdata")
        if setting:  # neither the original nor a rival
            break
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url(lambda url: query_of(url) == {"hide": "heads", "__theme": "dark", **query_of(f"?{setting}")})
    expect(page.locator(".cards")).not_to_have_attribute("data-setting", "original")
    done(page)


def test_a_budget_is_met_and_its_link_opens_the_setting(page: Page, address: str) -> None:
    opened(page, address, "?bits=4&hide=heads&__theme=dark")
    page.locator("#detail > button").click()
    page.get_by_role("tab", name="The best under a budget").click()
    page.locator("#budget-size input").fill("0.1")
    page.locator("#find-best").click()
    link = page.locator("#budget-table a").first
    expect(link).to_be_visible(timeout=120_000)
    settled(page)
    words, setting = link.inner_text(), query_of(str(link.get_attribute("href")))
    assert setting and setting != {"bits": "4"}
    link.click()
    page.wait_for_url(lambda url: query_of(url) == {"hide": "heads", "__theme": "dark", **setting})
    expect(page.locator(".cards")).to_have_attribute("data-setting", words)
    done(page)


def test_what_it_takes_shows_both_models(page: Page, address: str) -> None:
    opened(page, address)
    page.locator("#detail > button").click()
    page.get_by_role("tab", name="Large or small: what it takes").click()
    for which in ("first", "second"):
        name = page.locator(f"#takes-{which} input").input_value()
        expect(page.locator("#takes-table .takes thead")).to_contain_text(name.rpartition("/")[2])


def test_rotate_stands_in_the_address(page: Page, address: str) -> None:
    opened(page, address, "?bits=4&rotate=True")
    page.get_by_role("button", name="Methods, structure, layers").click()
    expect(page.locator("#rotate input")).to_be_checked()  # a control gets its value a moment after it is first seen
    page.locator("#rotate input").uncheck()
    page.wait_for_url(lambda url: "rotate" not in query_of(url))
    page.locator("#rotate input").check()
    page.wait_for_url(lambda url: query_of(url).get("rotate") == "True")
    expect(page.locator(".cards")).to_have_attribute("data-setting", re.compile("rotated"))
    done(page)


def test_another_model_is_opened_from_the_page_and_others_see_it(
    model: Path, folders: dict[str, Path], tmp_path: Path, browser: Browser, page: Page
) -> None:
    with served(model, tmp_path / "cache") as own:
        opened(page, own, "?bits=4")
        other = browser.new_page()
        opened(other, own)
        page.locator("#picker > button").click()
        name = page.locator("#model input")
        name.fill("/no/such/folder")
        name.press("Enter")
        expect(page.locator("#model-outlook")).to_contain_text("There is no folder")
        name.fill(str(folders["gpt2"]))
        name.press("Enter")
        expect(page.locator("#model-outlook")).to_contain_text("Nothing to download")
        page.locator("#open-model").click()
        for each in (page, other):
            expect(each.locator("#top .source")).to_contain_text("from the folder gpt2")
        expect(page.locator(".cards")).to_have_attribute("data-setting", re.compile("^4 bits"))
        assert query_of(page.url).items() >= {"bits": "4", "model": str(folders["gpt2"])}.items()
        other.close()
        done(page)
        settled(page)
        page.goto("about:blank")


def test_a_lesson_asks_and_shows_only_then(page: Page, address: str) -> None:
    opened(page, address)
    settled(page)  # whoever leaves while more text is read cuts a stream, and the browser says so
    page.get_by_role("link", name="Fewer bits").click()
    done(page)
    expect(page.locator(".lesson")).to_contain_text("1 of 3")
    expect(page.locator(".lesson .then")).to_have_count(0)
    settled(page)
    page.get_by_role("link", name="half", exact=True).click()
    expect(page.locator(".lesson .then")).to_contain_text("Just so")
    done(page)
    expect(page.locator(".cards")).to_have_attribute("data-setting", re.compile("^8 bits"))


def test_present_mode_is_one_key_and_scenes_are_others(page: Page, address: str) -> None:
    done(opened(page, address))
    page.locator("#prompt textarea").press("p")
    expect(page.locator("html")).not_to_have_class(re.compile("present"))
    page.locator("h1").click()
    page.keyboard.press("p")
    expect(page.locator("html")).to_have_class(re.compile("present"))
    expect(page.locator("#controls")).to_be_hidden()
    page.get_by_role("button", name="Prepare scenes").click()
    expect(page.locator(".status")).to_contain_text("All scenes are recorded")
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


@pytest.mark.parametrize("theme, width", [("light", 1366), ("dark", 390)])
def test_the_easy_questions_tell_what_flipped_and_all_behind_a_door(
    page: Page, address: str, theme: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    done(opened(page, address, f"?bits=2&quant=rtn&__theme={theme}"))
    page.locator("#detail > button").click()
    page.locator("#ask-questions").click()
    expect(page.locator(".status")).to_contain_text("of 132 easy questions are right")
    flips = page.locator(".flipped tbody tr")
    lost, gained = (int(page.locator(".asked").inner_text().split(word)[1].split()[0]) for word in ("lost", "gained"))
    assert flips.count() == lost + gained > 0
    expect(page.locator(".every tbody tr").first).to_be_hidden()
    page.locator(".all-questions summary").press("Enter")
    expect(page.locator(".every tbody tr")).to_have_count(132)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page).response["violations"]
    serious = [
        (v["id"], [n["target"] for n in v["nodes"]][:3]) for v in found if v["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_a_rival_is_opened_compared_and_drawn(page: Page, address: str, folders: dict[str, Path]) -> None:
    done(opened(page, address, "?bits=4"))
    page.locator("#detail > button").click()
    page.get_by_role("tab", name="Start small instead?").click()
    page.locator("#rival-name input, #rival-name textarea").fill(str(folders["gpt2"]))
    page.locator("#meet-rival").click()
    expect(page.locator("#rival-table .verdicts p")).to_have_count(3)
    for name in (str(folders["gpt2"]), "original", "4 bits"):
        expect(page.locator("#rival-table .rival tbody")).to_contain_text(name)
    expect(page.locator(".status")).to_contain_text("Compared with")
    page.wait_for_function(
        "document.querySelector('#plot size-picture')?.drawing.data?.some(trace => trace.name === 'rival')"
    )


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
    tab_to(page, "#bits input[type=range]")
    press("ArrowRight")
    expect(cards).to_have_attribute("data-setting", re.compile("20 % zeros.*, 7 bits"))
    tab_to(page, "#more > button")
    press("Enter")
    tab_to(page, "#depth input[type=range]")
    press("End")
    expect(cards).to_have_attribute("data-setting", re.compile("of the blocks out"))
    done(page)
    tab_to(page, "#prompt textarea")
    press("ControlOrMeta+a")
    page.keyboard.type("the dog")
    before = page.locator(".pane.original .text").inner_text()
    tab_to(page, "#write, #write button")
    press("Enter")
    expect(page.locator(".pane.original .text")).not_to_have_text(before)
    done(page)
    tab_to(page, "#detail > button")
    press("Enter")
    tab_to(page, "#measure-numbers, #measure-numbers button")
    press("Enter")
    expect(page.locator("#numbers-table .statistics")).to_be_visible(timeout=120_000)
    done(page)
    for _ in range(6):
        press("Shift+Tab")
        if page.evaluate("document.activeElement.innerText") == "Blind test":
            break
    expect(page.get_by_role("tab", name="Blind test")).to_be_focused(timeout=1)
    press("Enter")
    tab_to(page, "#blind-pair, #blind-pair button")
    press("Enter")
    expect(page.locator(".pair .pane")).to_have_count(2)
    page.keyboard.press("Escape")
    tab_to(page, "a[href*='lesson=bits']", 200)
    press("Enter")
    expect(page.locator(".lesson")).to_contain_text("1 of 3")
    done(page)


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
