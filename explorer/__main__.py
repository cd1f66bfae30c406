"""The command line, of `size-explorer` and of `python -m explorer`. Only this file and `commands` print."""

import argparse
import io
import sys
from collections.abc import Sequence

from explorer.commands import bench, choose, heal, measure, page, report, speed, write
from explorer.commands.options import about, model_options, recipe_options
from explorer.model.preflight import ModelRejected

COMMANDS = (page, measure, speed, write, report, heal, choose, bench)
OWN = ("-h", "--help", "--version")  # options of the program itself; others without a command are the page's


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 with one plain sentence on standard error."""
    for stream in (sys.stdout, sys.stderr):  # a result must not be lost at a sign that the terminal lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0].startswith("-") and given[0] not in OWN:
        given.insert(0, "page")
    options = _parser().parse_args(given)
    try:
        options.run(options)
    except (ModelRejected, ValueError, OSError) as problem:
        print(f"size-explorer: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("size-explorer: stopped.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    words = "Compress a language model live and measure it. Without a command the page opens in the browser."
    parser = argparse.ArgumentParser(prog="size-explorer", description=words)
    parser.add_argument("--version", action="version", version=about())
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    model, recipe = model_options(), recipe_options()
    for part in COMMANDS:
        part.add(commands, model, recipe)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
