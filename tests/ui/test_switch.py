"""Another model in the place of the one that is open: at any moment one of them can be used, and never both kept."""

import gc
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from explorer.model import places
from explorer.ui.desk import Desk
from explorer.ui.switch import Switch
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench


@pytest.fixture
def desk(folders: dict[str, Path]) -> Iterator[Desk]:
    desk = Desk(Workbench(str(folders["llama"])).load())
    yield desk
    desk.bench.close()


def passed(condition: object, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.05)
    return bool(condition())  # type: ignore[operator]


def test_the_other_model_takes_the_place_and_the_memory_of_the_first_is_given_back(
    desk: Desk, folders: dict[str, Path]
) -> None:
    before, switch = desk.bench, Switch(desk)
    gone = weakref.ref(before.loaded.model)
    steps = switch.open(str(folders["gpt2"]), "somebody")
    assert "gpt2" in next(steps) and "somebody" in switch.coming
    assert desk.bench is before and before.preview(Recipe(bits=4)).file_bytes.value > 0  # usable meanwhile
    list(steps)
    assert desk.bench is not before and desk.bench.loaded.folder.name == "gpt2" and switch.coming == ""
    assert desk.number == 2 and desk.asked_by == "somebody"

    def let_go() -> bool:
        gc.collect()
        return gone() is None

    assert passed(let_go)
    assert (
        desk.known.bench is desk.bench
        and desk.bench.variant(Recipe(bits=4, quant="rtn")).size.compression_ratio.value > 1
    )


@pytest.mark.parametrize("name", ["", None, "/no/such", "no/such", "x" * 5000])
def test_a_refusal_is_one_sentence_and_the_first_model_stays(desk: Desk, name: object) -> None:
    before, switch = desk.bench, Switch(desk)
    with pytest.raises(ValueError, match=r"\.$"):
        list(switch.open(name, "somebody"))
    assert desk.bench is before and desk.number == 1 and switch.coming == ""
    assert before.ready.is_set() and before.variant(Recipe(bits=8, quant="rtn")).size.file_bytes.value > 0


def test_whoever_stops_keeps_the_first_model(desk: Desk, folders: dict[str, Path]) -> None:
    before, switch = desk.bench, Switch(desk)
    steps = switch.open(str(folders["gpt2"]), "somebody")
    for _ in range(2):
        next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert desk.bench is before and switch.coming == ""
    list(switch.open(str(folders["neox"]), "another"))
    assert desk.bench.loaded.folder.name == "neox"


def test_stopping_ends_a_download(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []

    def locate(name: str, step: object) -> Iterator[str]:
        try:
            while True:
                yield "Downloading: 1 of 5 MB."
        finally:
            ended.append(True)

    monkeypatch.setattr(places, "locate", locate)
    steps = Switch(desk).open("someone/large", "somebody")
    assert [next(steps) for _ in range(3)][-1] == "Downloading: 1 of 5 MB."
    steps.close()  # type: ignore[attr-defined]
    assert ended == [True]


def test_one_at_a_time(desk: Desk, folders: dict[str, Path]) -> None:
    switch = Switch(desk)
    first = switch.open(str(folders["gpt2"]), "somebody")
    next(first)
    with pytest.raises(ValueError, match="One at a time"):
        list(switch.open(str(folders["neox"]), "another"))
    list(first)
    assert desk.bench.loaded.folder.name == "gpt2"


def test_visitors_choose_among_what_the_host_allowed(desk: Desk, folders: dict[str, Path]) -> None:
    switch = Switch(desk, [str(folders["llama"]), str(folders["neox"])])
    assert [name for _, name in switch.names()] == [str(folders["llama"]), str(folders["neox"])]
    with pytest.raises(ValueError, match="only these"):
        list(switch.open(str(folders["gpt2"]), "a visitor"))
    list(switch.open(str(folders["neox"]), "a visitor"))
    assert desk.bench.loaded.folder.name == "neox"


def test_an_export_opens_its_original_with_its_setting(desk: Desk, tmp_path: Path) -> None:
    recipe = Recipe(bits=4, quant="rtn")
    desk.bench.export(recipe, tmp_path / "small")
    switch = Switch(desk)
    assert str(tmp_path / "small") in [name for _, name in switch.names()]
    list(switch.open(str(tmp_path / "small"), "somebody"))
    assert desk.bench.loaded.folder.name == "llama"
    assert Recipe.from_dict(dict(pair.split("=") for pair in switch.setting.split("&"))) == recipe


def test_work_for_who_looks_at_the_first_model_ends(desk: Desk, folders: dict[str, Path]) -> None:
    from explorer.ui.asks import Controls  # noqa: PLC0415

    values = Controls(bits="4", prompt="the cat", length=400, chat=False)
    desk.preview(values, "a")
    views = desk.live(values, "a")
    next(views)
    switch = Switch(desk)
    list(switch.open(str(folders["gpt2"]), "somebody"))
    assert len(list(views)) < 10
