"""bounceback lint: what is wrong with files, without a cluster."""

from __future__ import annotations

import argparse
import sys

from bounceback.cli.documents import files_of
from bounceback.cli.exits import BAD_INPUT, PASSED
from bounceback.cli.linting import lint
from bounceback.report.course import course
from bounceback.report.words import count


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help='YAML files, or folders of them; "-" is the standard input'
    )


def run(options: argparse.Namespace) -> int:
    found = lint(options.files)
    order = {file: number for number, file in enumerate(files_of(options.files))}
    for remark in sorted(found.remarks, key=lambda r: (order.get(r.place.file, 0), r.place.line)):
        print(remark, file=sys.stderr)
    for each, spec in found.experiments:
        for line in course(spec):
            print(f"{each}: {line}")
    words = [f"{len(found.objects)} of ours in order"]
    if found.errors:
        words.append(count(len(found.errors), "error"))
    if warnings := len(found.remarks) - len(found.errors):
        words.append(count(warnings, "warning"))
    if found.others:
        words.append(f"{len(found.others)} of others not looked at")
    print(", ".join(words))
    return BAD_INPUT if found.errors else PASSED
