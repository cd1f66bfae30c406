"""The table of a session holds every setting, whole, and can be read back."""

import csv
import io
import json
import shlex

from explorer.__main__ import _parser
from explorer.commands.options import recipes_of
from explorer.studies import session
from explorer.values.recipe import Recipe
from explorer.workbench.workbench import Workbench

TRIED = (Recipe(), Recipe(bits=4, layers=("mlp=bits:3",)), Recipe(sparsity=0.5, keep=0.6))


def tried(workbench: Workbench) -> Workbench:
    for recipe in TRIED[:2]:
        workbench.measure(recipe, tokens=20, rounds=2)
    workbench.record(workbench.variant(TRIED[2]))
    return workbench


def test_json_holds_every_record_and_what_it_was_measured_on(workbench: Workbench) -> None:
    found = json.loads(session.as_json(tried(workbench)))
    assert [Recipe(**row["recipe"]) for row in found["rows"]] == list(TRIED)
    assert found["rows"][1]["quality"]["kl"] > 0 and found["rows"][2]["quality"] is None
    assert found["about"]["versions"]["torch"] and found["about"]["threads"] >= 1 and found["about"]["texts"]


def test_csv_has_a_line_a_setting_and_the_same_figures(workbench: Workbench) -> None:
    rows = list(csv.DictReader(io.StringIO(session.as_csv(tried(workbench)))))
    whole = json.loads(session.as_json(workbench))["rows"]
    assert [row["setting"] for row in rows] == [recipe.words() for recipe in TRIED]
    for row, record in zip(rows, whole, strict=True):
        assert float(row["size.file_bytes"]) == record["size"]["file_bytes"]
        assert (float(row["quality.kl"]) if record["quality"] else row["quality.kl"]) == (
            record["quality"]["kl"] if record["quality"] else ""
        )


def test_the_command_of_a_row_means_the_same_setting(workbench: Workbench) -> None:
    for row in tried(workbench).history():
        words = shlex.split(session.command(workbench, row))
        assert words[:3] == ["python", "-m", "explorer"]
        options = _parser().parse_args(words[3:])
        assert recipes_of(options) == [row.recipe] and options.model == workbench.name


def test_whatever_a_visitor_names_stays_one_argument_of_the_shell() -> None:
    evil = "x'; touch pwned; '"
    recipe = Recipe(bits=4, protect=(evil, "-x", "a b", '"$(id)"'), layers=(f"{evil}=bits:3",))
    words = shlex.split(session.arguments_of(recipe), comments=True)
    assert all(word.startswith("--") or word == "4" for word in words)
    assert recipes_of(_parser().parse_args(["measure", *words])) == [recipe]


def test_no_cell_is_a_formula(workbench: Workbench) -> None:
    workbench.name = "=cmd|' /C calc'!A0"
    workbench.record(workbench.variant(Recipe(bits=4)))
    rows = list(csv.reader(io.StringIO(session.as_csv(workbench))))
    assert not [cell for row in rows for cell in row if cell[:1] in ("=", "+", "@")]
    assert "'=cmd" in rows[1][rows[0].index("model")]


def test_an_empty_session_is_an_empty_table(workbench: Workbench) -> None:
    assert session.as_csv(workbench).strip() == "" and json.loads(session.as_json(workbench))["rows"] == []
