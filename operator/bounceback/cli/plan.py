"""bounceback plan: what an experiment would touch, and how; touches nothing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.cli.cluster import Cluster, connect
from bounceback.cli.cluster import arguments as cluster_arguments
from bounceback.cli.documents import STANDARD_INPUT, SUFFIXES
from bounceback.cli.exits import BAD_INPUT, PASSED, CommandError
from bounceback.cli.freeze import operator_namespace
from bounceback.cli.linting import Linted, lint
from bounceback.cli.progress import Output, output_argument
from bounceback.cli.status import experiment, table
from bounceback.report.subject import Subject
from bounceback.report.words import count

if TYPE_CHECKING:
    from bounceback.cli.outlook import Outlook

Wanted = tuple[str, str, FaultExperimentSpec, bool]
"""Namespace, name, spec, and whether it is yet to be made."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", metavar="FILE|NAME", help="a YAML file or a folder of them, or an experiment that is there"
    )
    output_argument(parser)
    operator_namespace(parser)
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """2 where something stands against it."""
    from bounceback.cli.foresight import Foresight  # loads the vehicles' decisions, which no other command needs

    found = lint([options.what]) if _is_file(options.what) else Linted()
    for remark in found.errors:
        print(remark, file=sys.stderr)
    if found.errors:
        return BAD_INPUT
    cluster = connect(options)
    here = options.namespace or cluster.namespace
    checks = {(check.namespace or here, check.name): spec for check, spec in found.checks}
    foresight = Foresight(cluster, options.operator_namespace, checks)
    outlooks = [
        foresight.look(namespace, name, spec, is_new=is_new)
        for namespace, name, spec, is_new in _wanted(cluster, options.what, found, here)
    ]
    for outlook in outlooks:
        print(json.dumps(asdict(outlook)) if options.output is Output.JSON else "\n".join(told(outlook)))
    return BAD_INPUT if any(outlook.refusals for outlook in outlooks) else PASSED


def _is_file(what: str) -> bool:
    return what == STANDARD_INPUT or what.endswith(SUFFIXES) or Path(what).exists()


def _wanted(cluster: Cluster, what: str, found: Linted, here: str) -> Iterator[Wanted]:
    if not _is_file(what):
        body = experiment(cluster, here, what)
        try:
            subject = Subject.of(body)
        except ValueError as error:
            raise CommandError(f"{what} {error}") from error
        yield here, what, subject.spec, False
        return
    if not found.experiments:
        raise CommandError(f"{what} holds no FaultExperiment; there is nothing to plan")
    for each, spec in found.experiments:
        yield each.namespace or here, each.name, spec, True


def told(outlook: Outlook) -> Iterator[str]:
    """For people: each fault with its pods, then what stands against it."""
    yield f"{outlook.namespace}/{outlook.name}"
    for fault, pods in outlook.faults.items():
        noun = outlook.nouns.get(outlook.on.get(fault, ""), "pod")
        yield f"  {fault} on {count(len(pods), noun)}"
        if pods:
            rows = [
                ("TARGET", "NODE", "VEHICLE", "RUNG", "WHY"),
                *((p.pod, p.node, p.vehicle, p.rung, p.why) for p in pods),
            ]
            yield from (f"    {line}" for line in table(rows))
    for target, number in outlook.matching.items():
        noun = outlook.nouns.get(target, "pod")
        yield f"  {target}: {count(number, 'running pod' if noun == 'pod' else noun)} to choose from"
    yield from (f"  {line}" for line in outlook.course)
    yield from (f"  note: {note}" for note in outlook.notes)
    yield from (f"  refused: {refusal}" for refusal in outlook.refusals)
    yield "  nothing was touched" + ("; it would not run" if outlook.refusals else "; nothing stands against it")
