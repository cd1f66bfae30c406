"""The job: written, opened again, and under its name; or nothing at all."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from explorer.formats import export as job
from explorer.formats.export import export, judged
from explorer.model.preflight import ModelRejected
from explorer.values.departure import Departure
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

FOUR = Recipe(bits=4, quant="rtn")


def made(bench: Workbench, recipe: Recipe, asked: list[str], out: Path, check: bool = True) -> tuple[Departure, ...]:
    steps, shares = export(bench, recipe, asked, out, check), list[float]()
    while True:
        try:
            shares.append(next(steps).share)
        except StopIteration as end:
            assert shares == sorted(shares) and shares[-1] == 1
            found: tuple[Departure, ...] = end.value
            return found


def test_several_formats_leave_at_once_and_are_the_variant(unprepared: Workbench, tmp_path: Path) -> None:
    asked = ["explorer", "transformers", "gguf"]
    found = made(unprepared, FOUR, asked, tmp_path / "small")
    assert [departure.offer.format for departure in found] == asked
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {"small"}
    for departure in found:
        folder, check = Path(departure.folder), departure.check
        assert folder == tmp_path / "small" / departure.offer.format and check is not None
        assert check.kl.value < 0.02 and departure.offer.bytes is not None
        assert check.bytes.value == pytest.approx(departure.offer.bytes.value, rel=1e-3)
        assert check.bytes.value == next(f for p in ("*.gguf", "*.safetensors") for f in folder.glob(p)).stat().st_size
        card = (folder / "README.md").read_text()
        assert "KL to the variant" in card and f"--format {departure.offer.format}" in card and "| measured |" in card
        assert json.loads((folder / "check.json").read_text())["opened_by"] == check.opened_by
    assert found[0].check is not None and found[0].check.kl.value == 0  # its own format is the same kernels
    assert (tmp_path / "small" / "gguf" / "Modelfile").read_text().startswith("FROM ./small.gguf")


@pytest.mark.parametrize("recipe", [FOUR, Recipe(quant="nf4")], ids=Recipe.words)
def test_other_packages_formats_leave(unprepared: Workbench, recipe: Recipe, tmp_path: Path) -> None:
    name = "bitsandbytes" if recipe.quant == "nf4" else "compressed-tensors"
    (found,) = made(unprepared, recipe, [name], tmp_path / "small")
    assert Path(found.folder) == tmp_path / "small" and (tmp_path / "small" / "model.safetensors").is_file()
    installed = name == "bitsandbytes" or find_spec("compressed_tensors") is not None
    assert (found.check is not None) == installed


def test_what_is_not_asked_to_be_checked_is_not(unprepared: Workbench, tmp_path: Path) -> None:
    (found,) = made(unprepared, FOUR, ["transformers"], tmp_path / "small", check=False)
    assert found.check is None and not (tmp_path / "small" / "check.json").exists()


@pytest.mark.parametrize("after", range(1, 12, 2))
def test_a_stopped_export_leaves_nothing(unprepared: Workbench, tmp_path: Path, after: int) -> None:
    steps = export(unprepared, FOUR, ["gguf", "transformers"], tmp_path / "here" / "small")
    for _ in range(after):
        next(steps)
    steps.close()
    assert list((tmp_path / "here").iterdir()) == []


def test_a_failed_export_leaves_nothing(unprepared: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise OSError("no space left on device")

    monkeypatch.setattr(job, "card", full)
    with pytest.raises(OSError, match="no space"):
        made(unprepared, FOUR, ["gguf"], tmp_path / "here" / "small")
    assert list((tmp_path / "here").iterdir()) == []


def test_a_file_that_says_something_else_is_not_kept(
    unprepared: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explorer.formats.gguf_tensors._order", lambda *_: lambda rows: rows[::-1].copy())
    with pytest.raises(ModelRejected, match="something else than the variant"):
        made(unprepared, FOUR, ["gguf"], tmp_path / "here" / "small")
    assert list((tmp_path / "here").iterdir()) == []


def test_nothing_is_overwritten(unprepared: Workbench, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    with pytest.raises(ValueError, match="exists already"):
        next(export(unprepared, FOUR, ["gguf"], tmp_path / "small"))


@pytest.mark.parametrize(
    "asked, out, words",
    [(["onnx"], None, "one of explorer"), ([], None, "one of explorer"), (["gguf"], Path("a.gguf"), "names a folder")]
    + [(["gguf"], Path("a\tb"), "folder's name"), (["gguf"], Path("/tmp"), "exists already")],
)
def test_arguments_are_judged_before_anything_is_opened(asked: list[str], out: Path | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        judged(asked, out)
    assert judged(["gguf", "gguf"], None) == ("gguf",)


def test_a_format_that_cannot_be_had_is_refused_in_its_sentence(unprepared: Workbench, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nf4, fp4 and int8 only"):
        next(export(unprepared, FOUR, ["bitsandbytes"], tmp_path / "small"))
    assert not (tmp_path / "small").exists()


def test_a_full_disk_is_seen_before_anything_is_made(
    unprepared: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(ValueError, match="disk"):
        next(export(unprepared, FOUR, ["gguf"], tmp_path / "small"))


def test_a_file_rounded_for_llama_cpp_s_types_leaves(workbench: Workbench, tmp_path: Path) -> None:
    steps = export(workbench, Recipe(depth=0.5), ["gguf"], tmp_path / "small", mix="Q6_K")
    while True:
        try:
            next(steps)
        except StopIteration as end:
            (found,) = end.value
            break
    assert found.offer.grid == "Q6_K" and found.check is not None and 0 < found.check.kl.value < 0.05
    assert found.check.bytes.value == found.offer.bytes.value
    card = (tmp_path / "small" / "README.md").read_text()
    assert "--depth 0.5 --format gguf --quant Q6_K" in card and "KL to the unrounded, opened by" in card
    with pytest.raises(ValueError, match="--format gguf"):
        next(export(workbench, Recipe(), ["gguf", "transformers"], mix="Q6_K"))
    with pytest.raises(ValueError, match="rounds the original's weights itself"):
        next(export(workbench, FOUR, ["gguf"], tmp_path / "other", mix="Q6_K"))
