"""The command line. Only this file and `commands` print."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from explorer import bench
from explorer.commands import choose, heal, measure, speed, write
from explorer.commands.options import model_options, open_model, recipe_options, tell
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
    for part in (measure, speed, write, heal, choose):
        part.add(commands, model, recipe)
    measuring = commands.add_parser("bench", parents=[model], help="how fast this program is here, as JSON")
    measuring.add_argument("--text", type=Path, help="text for the distances; the project's own by default")
    measuring.add_argument("--peers", type=Path, metavar="GGUF", help="a GGUF of the same weights, for llama.cpp")
    measuring.add_argument("--out", type=Path, help="also write the JSON to this file")
    measuring.set_defaults(run=_bench)
    return parser


def _bench(options: argparse.Namespace) -> None:
    result = json.dumps(bench.run(open_model(options), tell, options.peers), indent=2)
    if options.out:
        options.out.write_text(result + "\n", encoding="utf-8")
    print(result)


if __name__ == "__main__":
    raise SystemExit(main())
