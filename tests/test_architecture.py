"""The arrows of the house, and what no file may do. Read from the source alone; nothing is imported."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parent.parent
FILES = {
    file.relative_to(HOME).with_suffix("").as_posix(): file
    for file in sorted([*(HOME / "explorer").rglob("*.py"), *HOME.glob("app.py")])
}
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in FILES.items()}
ORDER = [
    "recipe",
    "presets",
    "techniques",
    "prompt",
    "records",
    "progress",
    "performance",
    "contest",
    "blind",
    "assets",
    "files",
    "preflight",
    "methods",
    "layers",
    "model",
    "measure",
    "architecture",
    "configs",
    "catalogue",
    "lessons",
    "takes",
    "variants",
    "preparing",
    "curves",
    "workbench",
    "session",
    "sweep",
    "trade",
    "budget",
    "profiling",
    "tracing",
    "rival",
    "bench_page",
    "bench_peers",
    "bench_numbers",
    "bench",
    "ui",
    "commands",
    "__main__",
]
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


def test_a_folder_imports_only_from_above() -> None:
    wrong = set()
    for name in FILES:
        for other in arrows(name):
            here, there = (each.removeprefix("explorer/") for each in (name, other))
            if name != "app" and ORDER.index(_floor(there)) > ORDER.index(_floor(here)):
                wrong.add((here, there))
    assert wrong == set()


def _floor(name: str) -> str:
    return "preflight" if name.endswith("preflight") else name.split("/")[0]


def test_values_know_the_standard_library_only() -> None:
    assert arrows("explorer/recipe") == set() and arrows("explorer/records") == {"explorer/recipe"}
    for name in ("recipe", "records", "assets"):
        assert not packages(f"explorer/{name}") & STANDARD


def test_methods_know_plain_tensors_only() -> None:
    for name in FILES:
        if name.startswith("explorer/methods/"):
            assert all(other.startswith("explorer/methods/") for other in arrows(name)), name
            assert packages(name) <= {"torch", "numpy", "explorer", "math", "collections", "functools"}
            assert "torch.nn" not in set(imports(name)) and "nn.Module" not in FILES[name].read_text()


def test_the_preflight_knows_neither_torch_nor_the_rest() -> None:
    assert arrows("explorer/model/preflight") == set()
    assert "torch" not in packages("explorer/model/preflight")


def test_only_the_page_knows_gradio() -> None:
    assert users("gradio") <= {"explorer/ui/controls", "explorer/ui/page", "app"}


def test_only_the_charts_know_plotly() -> None:
    assert users("plotly") <= {"explorer/ui/charts"}


def test_only_two_files_know_transformers() -> None:
    assert users("transformers") <= {"explorer/model/hub", "explorer/model/decode"}
    assert users("huggingface_hub") == {"explorer/model/hub"}


def test_what_is_drawn_knows_no_torch() -> None:
    assert not users("torch") & {"explorer/ui/views", "explorer/ui/charts"}


def test_nothing_imports_the_page_but_the_program() -> None:
    for name in FILES:
        if not name.startswith("explorer/ui/") and name != "app":
            assert not any(other.startswith("explorer/ui/") for other in arrows(name)), name


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_longer_than_350_lines(name: str) -> None:
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= 350


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
        if (
            name.startswith("explorer/")
            and module not in {"__init__", "assets", "bench", "bench_numbers", "bench_page", "bench_peers"}
            and folder not in {"ui", "commands"}
        ):
            assert (HOME / "tests" / folder / f"test_{module.strip('_')}.py").is_file(), name


def test_the_order_names_every_floor_once() -> None:
    floors = {_floor(name.removeprefix("explorer/")) for name in FILES if name.startswith("explorer/")} - {"__init__"}
    assert floors <= set(ORDER) and len(set(ORDER)) == len(ORDER)
    assert all(first != second for first, second in pairwise(ORDER))
