"""The arrows of the house, and what no file may do. Read from the source alone; nothing is imported."""

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parent.parent
FILES = {
    file.relative_to(HOME).with_suffix("").as_posix(): file
    for file in sorted([*(HOME / "explorer").rglob("*.py"), *HOME.glob("app.py")])
}
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in FILES.items()}
ROOMS = [
    "values",
    "methods",
    "takes",
    "native",
    "layers",
    "model",
    "measure",
    "workbench",
    "studies",
    "formats",
    "bench",
    "ui",
    "commands",
]
LOOSE = {"__init__", "__main__", "assets", "files"}
STANDARD = {
    "torch",
    "numpy",
    "transformers",
    "gradio",
    "plotly",
    "safetensors",
    "huggingface_hub",
    "psutil",
    "accelerate",
}


def imports(name: str) -> Iterator[str]:
    """Dotted names that a file imports, wherever in it; for `from a import b` both a and a.b."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports by dots"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(name: str) -> set[str]:
    """The files of this project that a file imports."""
    return {found for each in imports(name) if (found := each.replace(".", "/")) in FILES and found != name}


def packages(name: str) -> set[str]:
    return {each.split(".")[0] for each in imports(name)}


def users(package: str) -> set[str]:
    return {name for name in FILES if package in packages(name)}


def test_the_imports_have_no_circle() -> None:
    list(TopologicalSorter({name: arrows(name) for name in FILES}).static_order())


def room(name: str) -> str:
    """The folder of a file; '' for those that lie loose."""
    return name.split("/")[1] if name.count("/") > 1 else ""


def test_the_rooms_are_those_that_are_named() -> None:
    entries = {path.stem for path in (HOME / "explorer").iterdir() if not path.name.startswith((".", "__pycache__"))}
    assert entries == {*ROOMS, *LOOSE}
    assert len(entries) <= 17


def test_a_folder_imports_only_from_above() -> None:
    wrong = set()
    for name in FILES:
        for other in arrows(name):
            if room(name) and room(other) and ROOMS.index(room(other)) > ROOMS.index(room(name)):
                wrong.add((name, other))
    assert wrong == set()


def test_folders_have_no_circle() -> None:
    floors: dict[str, set[str]] = {each: set() for each in ROOMS}
    for name in FILES:
        if room(name):
            floors[room(name)] |= {room(other) for other in arrows(name)} - {"", room(name)}
    list(TopologicalSorter(floors).static_order())


def test_what_lies_loose_is_below_all_rooms() -> None:
    for name in ("explorer/assets", "explorer/files"):
        assert arrows(name) == set() and not packages(name) & STANDARD


def test_values_know_the_standard_library_only() -> None:
    for name in FILES:
        if room(name) == "values":
            assert packages(name) <= {*sys.stdlib_module_names, "explorer"}, name
            assert {room(other) for other in arrows(name)} <= {"values"}, name


def test_methods_know_plain_tensors_only() -> None:
    for name in FILES:
        if name.startswith("explorer/methods/"):
            assert all(other.startswith("explorer/methods/") for other in arrows(name)), name
            assert packages(name) <= {"torch", "numpy", "explorer", "math", "collections", "functools"}
            assert "torch.nn" not in set(imports(name)) and "nn.Module" not in FILES[name].read_text()


def test_the_preflight_knows_neither_torch_nor_the_rest() -> None:
    preflight = {f"explorer/model/{name}" for name in ("preflight", "gguf_header", "memory", "quantized")}
    for name in preflight:
        assert arrows(name) <= {"explorer/model/preflight"}, name
        assert packages(name) <= {*sys.stdlib_module_names, "explorer", "psutil"}, name


WITHOUT_GRADIO = {"asks", "color", "desk", "known", "markup", "patience", "run", "standing", "view", "visits"}
WITHOUT_GRADIO |= {"word_diff", "words"}


def test_only_what_is_placed_on_the_page_knows_gradio() -> None:
    assert all(name.startswith("explorer/ui/") for name in users("gradio"))
    assert not users("gradio") & {f"explorer/ui/{name}" for name in WITHOUT_GRADIO}


def test_only_the_pictures_know_plotly() -> None:
    assert users("plotly") <= {"explorer/ui/pictures"}


def test_only_three_files_know_transformers() -> None:
    assert users("transformers") == {f"explorer/model/{name}" for name in ("loaders", "decode", "rendering")}
    assert users("huggingface_hub") == {"explorer/model/downloads"}


def test_the_page_knows_no_torch() -> None:
    assert not [name for name in users("torch") if name.startswith("explorer/ui/")]


def test_nothing_imports_the_page_but_the_program() -> None:
    for name in FILES:
        if room(name) not in ("ui", "commands") and name != "app":
            assert not any(room(other) == "ui" for other in arrows(name)), name


def test_no_function_of_the_page_is_long_and_the_page_is_read_in_a_minute() -> None:
    for name in FILES:
        if room(name) == "ui":
            for node in ast.walk(TREES[name]):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    assert (node.end_lineno or 0) - node.lineno < 60, f"{name}:{node.lineno}"
    assert len(FILES["explorer/ui/page"].read_text().splitlines()) <= 150


def test_panels_do_not_know_each_other() -> None:
    for name in FILES:
        if name.startswith("explorer/ui/panels/"):
            assert not [other for other in arrows(name) if other.startswith("explorer/ui/panels/")], name


def test_every_panel_has_one_table_of_words_and_no_table_is_nobody_s() -> None:
    tables = {file.stem for file in (HOME / "assets" / "words").glob("*.toml")}
    panels = {name.rpartition("/")[2] for name in FILES if name.startswith("explorer/ui/panels/")} - {"__init__"}
    assert tables - panels == {"markup", "page", "report"}
    for name in panels:
        asked = set(re.findall(r'\bwords\("(\w+)"\)', FILES[f"explorer/ui/panels/{name}"].read_text()))
        assert asked <= {name, "markup", "status"}, name
        assert (name in tables) == (name in asked), name


@pytest.mark.parametrize("name", FILES)
def test_no_file_has_a_name_that_says_nothing(name: str) -> None:
    assert not {"utils", "common", "helpers", "base", "manager"} & set(name.split("/"))


@pytest.mark.parametrize("name", FILES)
def test_no_mode_of_torch_spans_a_yield(name: str) -> None:
    """A generator may go on in another thread, and torch's modes belong to threads."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.With) and any("torch." in ast.unparse(item.context_expr) for item in node.items):
            inside = [each for statement in node.body for each in ast.walk(statement)]
            assert not [each for each in inside if isinstance(each, ast.Yield | ast.YieldFrom)], f"{name}:{node.lineno}"
        if isinstance(node, ast.FunctionDef) and any("torch." in ast.unparse(each) for each in node.decorator_list):
            assert not [each for each in ast.walk(node) if isinstance(each, ast.Yield | ast.YieldFrom)], (
                f"{name}:{node.lineno}"
            )


@pytest.mark.parametrize("name", FILES)
def test_no_file_runs_what_it_reads_or_opens_the_page_to_the_world(name: str) -> None:
    assert not packages(name) & {"pickle", "dill", "cloudpickle", "marshal", "shelve"}
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "torch.load", "os.system", "__import__"}, f"{name}:{node.lineno}"
            for keyword in node.keywords:
                setting = (keyword.arg, ast.unparse(keyword.value))
                refused = {
                    ("share", "True"),
                    ("trust_remote_code", "True"),
                    ("shell", "True"),
                    ("weights_only", "False"),
                }
                assert setting not in refused, f"{name}:{node.lineno}"


def test_texts_for_calibration_and_for_evaluation_share_no_eight_words() -> None:
    parts = [_runs(part) for part in ("evaluation", "calibration")]
    assert min(map(len, parts)) > 1000
    assert not parts[0] & parts[1]


def _runs(part: str) -> set[tuple[str, ...]]:
    found = set()
    for file in (HOME / "assets" / "texts" / part).glob("*.txt"):
        words = re.findall(r"\w+", file.read_text(encoding="utf-8").lower())
        found |= {tuple(words[i : i + 8]) for i in range(len(words) - 7)}
    return found


def test_every_module_of_the_core_has_its_tests_in_the_same_place() -> None:
    for name in FILES:
        folder, _, module = name.removeprefix("explorer/").rpartition("/")
        does = any(isinstance(node, ast.FunctionDef) for node in ast.walk(TREES[name]))
        if does and room(name) not in {"bench", "ui", "commands"} and module not in {"__init__", "app"}:
            assert (HOME / "tests" / folder / f"test_{module.strip('_')}.py").is_file(), name
