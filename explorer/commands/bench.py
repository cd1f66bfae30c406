"""`bench`: how fast this program is on this machine, as JSON."""

import argparse
import json
from pathlib import Path

from explorer.bench import race, speed, tables
from explorer.commands.options import Commands, open_model, tell


def add(commands: Commands, model: argparse.ArgumentParser, recipe: argparse.ArgumentParser) -> None:
    """`bench`."""
    parser = commands.add_parser("bench", parents=[model], help="how fast this program is here, as JSON")
    parser.add_argument("--text", type=Path, help="text for the distances; the project's own by default")
    parser.add_argument("--peers", type=Path, metavar="GGUF", help="a GGUF of the same weights, for llama.cpp")
    parser.add_argument("--race", action="store_true", help="only files of llama.cpp's types, ours against its own")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--figures", type=Path, metavar="MD", help="also write the tables into this document")
    parser.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> None:
    if options.race:
        workbench = open_model(options)
        print(tables.raced(race.run(workbench, speed.references(workbench), tell)))
        return
    found = speed.run(open_model(options), tell, options.peers)
    result = json.dumps(found, indent=2)
    if options.out:
        options.out.write_text(result + "\n", encoding="utf-8")
    if options.figures:
        document = tables.insert(options.figures.read_text(encoding="utf-8"), found)
        options.figures.write_text(document, encoding="utf-8")
    print(result)
