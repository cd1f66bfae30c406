"""The report on the page: a link that holds the whole file, or one sentence."""

import re
from base64 import b64decode
from functools import partial

from explorer.ui.asks import Controls
from explorer.ui.desk import Desk
from explorer.ui.panels import tried

PLAIN = Controls(prompt="the cat")
BITS = Controls(bits="8", quant="rtn", prompt="the cat")


def report_of(desk: Desk, values: Controls) -> str:
    *_, (link, line) = desk.study(values, "a", partial(tried.reported, desk))
    found = re.search(r'download="report.html" href="data:text/html;base64,([^"]+)"', link or "")
    assert found and line and line.state == "done"
    return b64decode(found[1]).decode()


def test_the_button_measures_what_is_lacking_and_gives_the_whole_file(desk: Desk) -> None:
    page = report_of(desk, BITS)
    assert page.startswith("<!doctype html>") and "8 bits" in page and page.count("<article>") == 3
    (row,) = [row for row in desk.bench.history() if row.recipe.bits == 8]
    assert row.quality and row.speed and len(row.texts) == 3
    assert report_of(desk, BITS) == page  # nothing is measured twice


def test_on_the_original_it_is_about_the_best_that_was_tried(desk: Desk) -> None:
    *_, (link, line) = desk.study(PLAIN, "a", partial(tried.reported, desk))
    assert link is None and line and line.state == "error" and "nothing to report" in line.sentence
    assert report_of(desk, BITS).partition("<section")[2].count("8 bits") > 1
    assert '<p class="setting">8 bits' in report_of(desk, PLAIN)
