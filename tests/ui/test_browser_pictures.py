"""Pictures in Chromium: every panel's is drawn, turns into its table, and is saved as SVG and PNG at slide size."""

import re
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.ui.test_browser import Axe, address, browser, done, model, opened, page, settled  # noqa: F401

pytestmark = pytest.mark.browser
SETTING = "?sparsity=0.5&prune=magnitude&bits=4&quant=rtn"
ASKED = {  # button → its pictures
    "Compare on more text": {
        "where-the-bytes-are",
        "what-breaks-first",
        "what-each-technique-saved",
        "what-each-technique-did",
    },
    "Measure every layer": {"layers", "layers-and-techniques"},
    "Look inside": {"weights", "singular-values"},
    "Measure speed": {"where-the-time-goes", "faster-or-slower"},
}


def picture(page: Page, file: str) -> Locator:  # noqa: F811
    return page.locator(f"size-picture[file='{file}']")


def saved(shown: Locator, folder: Path, kind: str) -> Path:
    button = shown.locator(f"button[data-format={kind}]")
    with shown.page.expect_download() as download:
        button.focus()
        shown.page.keyboard.press("Enter")
    assert download.value.suggested_filename == f"{shown.get_attribute('file')}.{kind}"
    download.value.save_as(folder / download.value.suggested_filename)
    return folder / download.value.suggested_filename


def opens(shown: Locator, folder: Path) -> None:
    """Both files: the SVG names model and setting and draws something, the PNG is of slide size and not one colour."""
    expect(shown.locator(".drawing .main-svg").first).to_be_visible()
    drawn = ElementTree.parse(saved(shown, folder, "svg"))
    words = " ".join(unescape("".join(text.itertext())) for text in drawn.iter("{http://www.w3.org/2000/svg}text"))
    assert str(shown.get_attribute("name")) in words and str(shown.get_attribute("margin")) in words
    assert re.search(r" · \d{4}-\d\d-\d\d · (measured|calculated)", words)
    assert (drawn.getroot().get("width"), drawn.getroot().get("height")) == ("1600", "900")
    with Image.open(saved(shown, folder, "png")) as image:
        assert image.size == (1600, 900)
        colors = image.convert("RGB").getcolors(1 << 24)
        assert colors and len(colors) > 50


def test_every_picture_is_drawn_turned_and_saved(page: Page, address: str, tmp_path: Path) -> None:  # noqa: F811
    opened(page, address, SETTING)
    page.locator("#detail button").first.click()
    for button, files in ASKED.items():
        settled(page)
        page.get_by_role("button", name=button).click()
        for file in sorted(files):
            expect(picture(page, file).locator(".drawing .main-svg").first).to_be_visible(timeout=120_000)
        done(page)
        settled(page)
    margin = str(picture(page, "weights").get_attribute("margin"))
    assert "50 % zeros (magnitude), 4 bits (rtn)" in margin
    for file in sorted(set().union(*ASKED.values(), ["size-and-quality"])):
        shown = picture(page, file)
        opens(shown, tmp_path)
        table = shown.locator("table").first
        expect(table).to_be_hidden()
        shown.locator(".switch").focus()
        page.keyboard.press("Enter")
        expect(table).to_be_visible()
        expect(shown.locator(".switch")).to_have_attribute("aria-pressed", "true")
        page.keyboard.press("Enter")
        expect(table).to_be_hidden()
    serious = [v["id"] for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
    assert serious == []


def test_five_costs_are_drawn_and_follow_the_theme(page: Page, address: str, tmp_path: Path) -> None:  # noqa: F811
    opened(page, address, "?__theme=dark")
    page.locator("#detail > button").click()
    page.get_by_role("tab", name="Large or small: what it takes").click()
    shown = picture(page, "what-a-month-costs")
    opens(shown, tmp_path)
    with Image.open(tmp_path / "what-a-month-costs.png") as image:
        pixel = image.convert("RGB").getpixel((5, 5))
        assert isinstance(pixel, tuple) and max(pixel) < 80  # the page's dark paper
    page.evaluate("document.body.classList.remove('dark')")
    color = page.locator("size-picture[file=what-a-month-costs] .xtick text").first
    expect(color).to_have_css("fill", "rgb(30, 41, 59)")


def test_a_click_into_a_picture_leaves_the_page_as_it_is(page: Page, address: str) -> None:  # noqa: F811
    opened(page, address, SETTING)
    page.locator("#detail button").first.click()
    page.get_by_role("button", name="Measure every layer").click()
    expect(picture(page, "layers-and-techniques").locator(".drawing .main-svg").first).to_be_visible(timeout=120_000)
    settled(page)
    before = page.url
    picture(page, "layers").locator(".drawing").click(position={"x": 200, "y": 60})
    page.wait_for_timeout(500)
    assert page.url == before
