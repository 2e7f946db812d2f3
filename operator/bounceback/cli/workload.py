"""bounceback workload: operations on a system, numbered, read back and accounted for; without a cluster."""

from __future__ import annotations

import argparse

from bounceback.cli.exits import CommandError
from bounceback.cli.progress import output_argument


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help='a YAML file with the workload; "-" is the standard input')
    parser.add_argument("--seconds", type=int, metavar="SECONDS", help="instead of the file's: how long the load lasts")
    parser.add_argument("--seed", type=int, metavar="NUMBER", help="instead of the file's")
    parser.add_argument("--url", metavar="URL", help="instead of the file's: the address of the system")
    parser.add_argument(
        "--history",
        metavar="FILE",
        help="write what happened for other checkers: .edn for Jepsen, Elle and Knossos, .jsonl for all else",
    )
    parser.add_argument(
        "--history-key", type=int, metavar="NUMBER", help="of a Register or Counter only this key, as Knossos has it"
    )
    output_argument(parser)


def run(options: argparse.Namespace) -> int:
    from bounceback.cli.working import run_workload  # uvloop and the rest load only for who uses them

    if options.history and not options.history.endswith((".edn", ".jsonl")):
        raise CommandError("--history must end in .edn or .jsonl: that says what is written")
    if options.history_key is not None and not (options.history or "").endswith(".edn"):
        raise CommandError("--history-key must be with a --history that ends in .edn")
    return run_workload(options)
