"""bounceback compare: a run against earlier ones, by their reports."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from bounceback.cli.cluster import arguments as cluster_arguments
from bounceback.cli.cluster import connect
from bounceback.cli.exits import FAILED, INCONCLUSIVE, PASSED, CommandError
from bounceback.cli.status import experiment, table
from bounceback.report.compare import Comparison, Outcome, compare
from bounceback.report.record import Record, record
from bounceback.report.subject import Subject

CODES: Final = {Outcome.KEPT: PASSED, Outcome.REGRESSED: FAILED, Outcome.INCONCLUSIVE: INCONCLUSIVE}
TOLERANCE: Final = 20


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_", metavar="RUN", help="a report (`report -o json`), or a finished experiment's name")
    parser.add_argument(
        "--baseline",
        action="append",
        required=True,
        metavar="RUN",
        help="an earlier one, likewise; of several the worst counts",
    )
    parser.add_argument(
        "--tolerance",
        type=_percent,
        default=TOLERANCE,
        metavar="PERCENT",
        help=f"how much longer a figure may be than before (default: {TOLERANCE})",
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="the form")
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Passed: nothing became worse. Failed: something did. Inconclusive: it cannot be said."""
    baseline = [_read(options, each) for each in options.baseline]
    try:
        found = compare(baseline, _read(options, options.run_), options.tolerance)
    except ValueError as error:
        raise CommandError(str(error)) from error
    if options.output == "json":
        print(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        print("\n".join(_text(found)))
    return CODES[found.outcome]


def _text(found: Comparison) -> list[str]:
    rows = [(each.what, each.before, each.now, str(each.change)) for each in found.differences]
    return [*table([("WHAT", "BEFORE", "NOW", "CHANGE"), *rows]), "", str(found.outcome)]


def _read(options: argparse.Namespace, place: str) -> Record:
    """From a file where there is one of that name, else from the cluster."""
    if not Path(place).is_file():
        cluster = connect(options)
        subject = _subject(experiment(cluster, options.namespace or cluster.namespace, place), place)
        return _record(subject, place)
    try:
        body = json.loads(Path(place).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise CommandError(f"{place} cannot be read as JSON: {error}") from error
    if isinstance(body, dict) and body.get("kind") == "FaultExperiment":
        return _record(_subject(body, place), place)
    try:
        return Record.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise CommandError(f"{place} is no report of this version (report -o json): {where}: {first['msg']}") from error


def _subject(body: dict[str, Any], place: str) -> Subject:
    try:
        return Subject.of(body)
    except ValueError as error:
        raise CommandError(f"{place} {error}") from error


def _record(subject: Subject, place: str) -> Record:
    try:
        return record(subject)
    except ValueError as error:
        raise CommandError(f"{place}: {error}") from error


def _percent(text: str) -> int:
    if not text.isdigit() or int(text) > 1000:
        raise argparse.ArgumentTypeError("must be a whole number of percent, 0 to 1000")
    return int(text)
