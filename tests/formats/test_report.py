"""A report is complete, says what the records say, runs nothing and asks the network for nothing."""

import html
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from explorer.__main__ import main
from explorer.formats.report import report, written
from explorer.studies import session
from explorer.values.recipe import Recipe
from explorer.values.units import plain
from explorer.workbench.workbench import Workbench
from tests.conftest import TEXTS

TEN = [
    *(Recipe(bits=bits, head_bits=head) for bits in (8, 4, 3, 2) for head in (16, 8)),
    Recipe(sparsity=0.5),
    Recipe(keep=0.5, bits=4),
]
LEFT = {"seconds": 0, "questions": 0}  # what is not read
PAIR = ("prompt", "original", "compressed")
SECTIONS = ["question", "answer", "plane", "texts", "breaks", "month", "origin", "method", "limits"]


@pytest.fixture(scope="module")
def tried(folders: dict[str, Path], known_facts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """A session of the original and ten settings, which no test changes."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("tried")
        patch.setenv("SIZE_EXPLORER_CACHE", str(cache))
        shutil.copytree(known_facts, cache / "facts" / known_facts.name)
        bench = Workbench(str(folders["llama"]), texts=TEXTS).load()
        for recipe in (Recipe(), *TEN):
            bench.measure(recipe, tokens=20, rounds=2)
        yield bench


class Seen(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes = list[str](), list[tuple[str, str]]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def words_of(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", " ", page))


def test_ten_settings_make_a_whole_report_whose_numbers_are_the_records(tried: Workbench) -> None:
    page = report(tried, TEN[3])
    assert re.findall(r'<section class="(\w+)">', page) == SECTIONS
    assert page.count("<article>") == 3 and page.count("<svg") == 3
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", page.split('class="plane"')[1].split("</section>")[0])
    told = [words_of(row) for row in rows]
    for row in tried.history():
        assert row.quality and row.speed
        name = rf"^ *(\d+ +)?{re.escape(row.recipe.words())} +[\d.]+ MB"
        (found,) = [text for text in told if re.search(name, text)]
        expected = [row.size.file_bytes, row.quality.kl, row.quality.top1_agreement, row.quality.perplexity]
        for reading in [*expected, row.speed.ms_per_token]:
            assert f" {plain(reading, reading.value)} " in found, (row.recipe.words(), found)
    (marked,) = re.findall("<tr class=marked>(.*?)</tr>", page)
    assert TEN[3].words() in marked


def test_a_report_of_the_file_is_that_of_the_bench(tried: Workbench) -> None:
    page, saved = report(tried, TEN[0]), session.as_json(tried)
    assert written(saved, TEN[0]) == page
    assert [row.to_dict() | LEFT for row in session.opened(saved).rows] == [
        row | LEFT for row in (json.loads(json.dumps(each.to_dict())) for each in tried.history())
    ]


def test_every_number_in_a_sentence_or_a_table_has_its_badge(tried: Workbench) -> None:
    page = report(tried, TEN[1])
    shown = re.findall(r'<span class="number">[^<]+</span>(<span class="badge (\w+)")?', page)
    assert len(shown) > 80 and all(badge for badge, _ in shown)
    assert {how for _, how in shown} == {"measured", "calculated", "simulated"}
    for part in ("answer", "month"):
        body = page.split(f'<section class="{part}">')[1].split("</section>")[0]
        cells = re.findall(r"<td>(.*?)</td>", body) + re.findall(r"<p>(.*?)</p>", body) * (part == "answer")
        known = r'<span class="reading".*?</span></span>|\([^)]*interval[^)]*\)|“.*?”|the 95 % interval .*|L4$|H200$'
        for cell in cells:  # left are names, and the ends of what stands before them
            assert not re.search(r"\d", re.sub(known, "", cell.replace("&#x27;", "'"))), cell


def test_what_models_write_runs_nothing(tried: Workbench) -> None:
    evil = "</p><script>alert(1)</script><img src=x onerror=alert(1)>\n# x [a](javascript:alert(1)) |"
    whole = json.loads(session.as_json(tried))
    for row in whole["rows"]:
        row |= {"model": f"models/{evil}", "command": evil, "texts": [dict.fromkeys(PAIR, evil)] * 3}
        row["quality"]["by_kind"] = dict.fromkeys([evil], next(iter(row["quality"]["by_kind"].values())))
        row["size"]["notes"] = [evil]
    whole["about"] |= {"processor": evil, "texts": {evil: evil}, "versions": {evil: evil}}
    page = written(json.dumps(whole), TEN[0])
    seen = Seen(page)
    assert not {"script", "img", "iframe", "link", "object", "a"} & {*seen.tags}
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert words_of(page).count("<script>alert(1)</script>") > 6
    lines = written(json.dumps(whole), TEN[0], "md").splitlines()
    assert not [line for line in lines if re.search(r"(?<!\\)<script", line) and not line.startswith("    ")]
    assert not [line for line in lines if re.search(r"(?<!\\)\[a(?!l)", line) and not line.startswith("    ")]


def test_nothing_is_asked_of_the_network(tried: Workbench) -> None:
    page = report(tried, TEN[2])
    seen = Seen(page)
    assert not [
        each for each in seen.attributes if each[0] in ("src", "href", "srcset", "data", "action", "xlink:href")
    ]
    assert "url(" not in page and "@import" not in page
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in seen.attributes


def test_the_smallest_that_is_close_is_chosen_or_the_closest(tried: Workbench) -> None:
    rows = [row for row in tried.history() if row.recipe != Recipe()]
    near = [row for row in rows if row.quality and row.quality.kl.value <= 0.05]
    if near:
        best = min(near, key=lambda row: row.size.file_bytes.value).recipe
    else:
        best = min(rows, key=lambda row: row.quality.kl.value if row.quality else 9).recipe
    assert f'<p class="setting">{best.words()}</p>' in report(tried)


def test_what_was_not_measured_is_not_told(tried: Workbench) -> None:
    whole = json.loads(session.as_json(tried))
    for row in whole["rows"]:
        row |= {"speed": None, "texts": []}
    whole["about"]["architecture"] = None
    page = written(json.dumps(whole), TEN[0])
    assert "Its speed was not measured" in page and "not measured</span>" in page
    assert "No pair of texts was written" in page and "no cost was calculated" in page
    with pytest.raises(ValueError, match=r"^The setting 5 bits of this session was .*\.$"):
        written(json.dumps(whole), Recipe(bits=5))


def test_markdown_has_the_same_parts_and_numbers(tried: Workbench) -> None:
    page = report(tried, TEN[3])
    text = written(session.as_json(tried), TEN[3], "md")
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert re.findall(r"^## (.*)$", text, re.M) == [html.unescape(title) for title in titles]
    assert text.count("](data:image/svg+xml;base64,") == 3 and text.count("\n### ") == 3
    numbers = re.findall(r'<span class="number">([^<]+)</span>', page)
    assert all(number in text for number in numbers)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.json"], "There is no file"),
        (["bad.json"], "not JSON"),
        (["empty.json"], "No setting of this session"),
        (["empty.json", "--bits", "4", "3"], "about one setting"),
        (["empty.json", "--out", "empty.json"], "is there already"),
        (["--model", "nowhere", "--bits", "4", "--against", "no-such-model"], "is not in the catalogue"),
        (["--model", "nowhere", "--bits", "4", "--rounds", "0"], "--rounds"),
        (["--model", "nowhere"], "report needs a session.json"),
    ],
)
def test_what_is_asked_wrongly_is_told_before_a_model_is_opened(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "empty.json").write_text('{"about": {}, "rows": []}')
    assert main(["report", *arguments]) == 2
    problem = capsys.readouterr().err
    assert told in problem and problem.count("\n") == 1
    assert {file.name for file in tmp_path.iterdir()} == {"bad.json", "empty.json"}


def test_a_recipe_is_measured_anew_and_its_file_said(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.md"
    how = ["--model", str(folders["llama"]), "--bits", "8", "--quant", "rtn", "--tokens", "20", "--rounds", "2"]
    assert main(["report", *how, "--out", str(out)]) == 0
    text = out.read_text()
    assert text.startswith("# How small") and "8 bits" in text and text.count("\n### ") == 3
    assert str(out) in capsys.readouterr().err
