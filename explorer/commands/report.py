"""The command that hands a session on: one file on one setting, from a session.json or measured anew."""

import argparse
import sys
from pathlib import Path

from explorer.commands.options import Commands, build, open_model, prepare, recipes_of, tell, tell_share
from explorer.files import replacing
from explorer.formats.report import FORMATS, written
from explorer.formats.report_contents import LARGE, chosen
from explorer.studies import pairs, session
from explorer.takes import catalogue
from explorer.values.recipe import Recipe


def add(commands: Commands, model: argparse.ArgumentParser, recipe: argparse.ArgumentParser) -> None:
    """`report`."""
    report = commands.add_parser("report", parents=[model, recipe], help="one file for who decides: html or md")
    about = "a session.json of the page; without one every combination of the settings is measured"
    report.add_argument("session", nargs="?", type=Path, help=about)
    report.add_argument("--out", type=Path, help="a file that does not exist yet (default: report.html or report.md)")
    report.add_argument("--format", choices=tuple(FORMATS), help="by default what the name of --out ends in, else html")
    report.add_argument(
        "--against", default=LARGE, metavar="MODEL", help=f"whose month to set beside (default: {LARGE})"
    )
    report.add_argument("--tokens", type=int, default=2048, help="evaluation tokens, 0 = all (default 2048)")
    report.add_argument("--rounds", type=int, default=5, help="timing rounds, original and compressed in turns")
    report.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> None:
    wanted = [recipe for recipe in recipes_of(options) if recipe != Recipe()]
    name, out = _file(options)
    if options.tokens < 0 or options.rounds < 1:
        raise ValueError("--tokens must be 0 or more, --rounds at least 1.")
    if catalogue.find(options.against) is None:
        raise ValueError(f"{options.against[:80]} is not in the catalogue.")
    if options.session:
        if len(wanted) > 1:
            raise ValueError("A report is about one setting: with a session.json give one value for each option.")
        saved, recipe = _read(options.session), wanted[0] if wanted else None
    elif wanted:
        saved, recipe = _measured(options, wanted)
    else:
        raise ValueError("report needs a session.json, or at least one setting such as --bits 4.")
    text = written(saved, recipe, name, options.against)
    with replacing(out) as file:
        file.write_text(text, encoding="utf-8")
    tell(f"Wrote {out}.")


def _file(options: argparse.Namespace) -> tuple[str, Path]:
    """Format and file; ValueError where it is there, or where its name says another format."""
    ending = options.out.suffix.lstrip(".").lower() if options.out else ""
    name = options.format or (ending if ending in FORMATS else "html")
    out = options.out or Path(f"report.{name}")
    if out.exists():
        raise ValueError(f"{out} is there already; give --out another name.")
    return name, out


def _read(file: Path) -> str:
    if not file.is_file():
        raise ValueError(f"There is no file {file}.")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{file.name} is not a UTF-8 text file.") from None


def _measured(options: argparse.Namespace, wanted: list[Recipe]) -> tuple[str, Recipe | None]:
    """The session of the original and these settings, and the one that was asked for where there is only one."""
    workbench = open_model(options)
    prepare(workbench, wanted)
    for recipe in (Recipe(), *wanted):
        build(workbench, recipe)
        workbench.measure(recipe, tokens=options.tokens or 10**9, rounds=options.rounds)
        tell(f"Measured {recipe.words()}.")
    about = chosen(workbench.history(), None).recipe
    for share in pairs.write(workbench, about):
        tell_share("Writing three pairs of texts", share)
    print(file=sys.stderr)
    return session.as_json(workbench), wanted[0] if len(wanted) == 1 else None
