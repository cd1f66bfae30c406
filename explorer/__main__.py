"""The command line. Only this file and `commands` print."""

import argparse
import sys
from collections.abc import Sequence

from explorer.commands import bench, choose, heal, measure, speed, write
from explorer.commands.options import model_options, recipe_options
from explorer.model.preflight import ModelRejected


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 with one plain sentence on standard error."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ModelRejected, ValueError, OSError) as problem:
        print(f"explorer: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("explorer: stopped.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m explorer", description="Compress a language model and measure it.")
    commands = parser.add_subparsers(dest="command", required=True)
    model, recipe = model_options(), recipe_options()
    for part in (measure, speed, write, heal, choose, bench):
        part.add(commands, model, recipe)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
