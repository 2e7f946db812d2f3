"""bounceback status: experiments at a glance, or one of them in full; of checks what they saw by themselves."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from bounceback.cli.cluster import CHECKS, CONFIG_MAPS, EXPERIMENTS, Cluster, RefusedError, connect
from bounceback.cli.cluster import arguments as cluster_arguments
from bounceback.cli.exits import PASSED, CommandError
from bounceback.cli.freeze import FREEZE, operator_namespace
from bounceback.cli.progress import Output, output_argument
from bounceback.report import repeats
from bounceback.report.course import LEVELS, STARTS, level_rows, start_rows
from bounceback.report.kept import told as evidence
from bounceback.report.outages import HEAD, Record, outages
from bounceback.report.outages import summary as check_summary
from bounceback.report.subject import Subject
from bounceback.report.words import MARKS, count, outcome, over_all, rate, seconds, summary
from bounceback.report.workloads import WORKLOADS, workload_rows

Json = dict[str, Any]
COLUMNS: Final = ("NAME", "VERDICT", "PHASE", "DETECTED", "RECOVERED", "INJECTION", "AGE")
CHECK_COLUMNS: Final = ("NAME", "MODE", "STATE", "AVAILABILITY", "OUTAGES", "LONGEST", "LAST", "AGE")
INJECTIONS: Final = ("FAULT", "TARGET", "NODE", "VEHICLE", "RUNG", "STATE", "HITS", "CLEANUP")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="one of them; without it, all of the namespace")
    parser.add_argument("--checks", action="store_true", help="RecoveryChecks, and the outages that they saw")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="those of all namespaces")
    output_argument(parser)
    operator_namespace(parser)
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    cluster = connect(options)
    namespace = options.namespace or cluster.namespace
    if options.checks:
        return _checks(cluster, namespace, options)
    if options.name:
        body = experiment(cluster, namespace, options.name)
        print(json.dumps(body, indent=2) if options.output is Output.JSON else "\n".join(in_full(body)))
        return PASSED
    bodies = cluster.list(EXPERIMENTS, None if options.all_namespaces else namespace)
    if options.output is Output.JSON:
        print(json.dumps(bodies, indent=2))
        return PASSED
    if (reason := _frozen(cluster, options.operator_namespace)) is not None:
        print(f"all experiments are frozen: {reason or 'no reason given'}\n")
    print("\n".join(table(_rows(bodies, options.all_namespaces))) if bodies else f"no experiments in {namespace}")
    return PASSED


def experiment(cluster: Cluster, namespace: str, name: str) -> Json:
    """Raises CommandError when there is none of that name."""
    body = cluster.get(EXPERIMENTS, namespace, name)
    if body is None:
        raise CommandError(f"there is no FaultExperiment {name} in {namespace}; bounceback status -A shows all")
    return body


def check(cluster: Cluster, namespace: str, name: str) -> Json:
    """Raises CommandError when there is none of that name."""
    body = cluster.get(CHECKS, namespace, name)
    if body is None:
        raise CommandError(f"there is no RecoveryCheck {name} in {namespace}; bounceback status --checks -A shows all")
    return body


def record_of(body: Json) -> Record:
    """Raises CommandError where it has none."""
    try:
        return Record.of(body)
    except ValueError as error:
        raise CommandError(f"{body['metadata']['name']} {error}") from error


def _checks(cluster: Cluster, namespace: str, options: argparse.Namespace) -> int:
    if options.name:
        body = check(cluster, namespace, options.name)
        if options.output is Output.JSON:
            print(json.dumps(body, indent=2))
            return PASSED
        record = record_of(body)
        rows = list(outages(record))
        print("\n".join([*check_summary(record), *(["", *table([HEAD, *rows])] if rows else [])]))
        return PASSED
    bodies = cluster.list(CHECKS, None if options.all_namespaces else namespace)
    if options.output is Output.JSON:
        print(json.dumps(bodies, indent=2))
        return PASSED
    print("\n".join(table(_check_rows(bodies, options.all_namespaces))) if bodies else f"no checks in {namespace}")
    return PASSED


def _check_rows(bodies: Iterable[Json], with_namespace: bool) -> Iterator[Sequence[str]]:
    yield ("NAMESPACE", *CHECK_COLUMNS) if with_namespace else CHECK_COLUMNS
    for body in bodies:
        metadata, status = body["metadata"], body.get("status") or {}
        seen = status.get("continuous") or {}
        row = (
            metadata["name"],
            body["spec"].get("mode") or "OnDemand",
            seen.get("state") or "",
            seen.get("availability") or "",
            str((seen.get("totals") or {}).get("outages", "")),
            seen.get("longest") or "",
            status.get("lastVerdict") or "",
            _age(metadata["creationTimestamp"]),
        )
        yield (metadata["namespace"], *row) if with_namespace else row


def _frozen(cluster: Cluster, namespace: str) -> str | None:
    """The reason, None when nothing is frozen, or when that is not for us to read."""
    try:
        freeze = cluster.get(CONFIG_MAPS, namespace, FREEZE)
    except RefusedError as error:
        if error.status == 403:
            return None
        raise
    return None if freeze is None else str((freeze.get("data") or {}).get("reason", ""))


def _rows(bodies: Iterable[Json], with_namespace: bool) -> Iterator[Sequence[str]]:
    yield ("NAMESPACE", *COLUMNS) if with_namespace else COLUMNS
    for body in bodies:
        metadata, status = body["metadata"], body.get("status") or {}
        row = (
            metadata["name"],
            status.get("verdict") or "",
            f"{status.get('phase') or 'Pending'} {(status.get('runs') or {}).get('told') or ''}".strip(),
            status.get("detected") or "",
            status.get("recovered") or "",
            (status.get("axes") or {}).get("injection") or "",
            _age(metadata["creationTimestamp"]),
        )
        yield (metadata["namespace"], *row) if with_namespace else row


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns as wide as they must be."""
    cells = list(rows)
    widths = [max(len(row[n]) for row in cells) for n in range(len(cells[0]))]
    return ["   ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _age(created: str) -> str:
    """As kubectl shows it."""
    age = int((datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds())
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if age >= 2 * size:
            return f"{age // size}{unit}"
    return f"{max(age, 0)}s"


def in_full(body: Json) -> list[str]:
    """One experiment: what happened so far, the marks, the injections."""
    try:
        subject = Subject.of(body)
    except ValueError as error:
        raise CommandError(f"{body['metadata']['name']} {error}") from error
    status = subject.status
    lines = summary(subject) if subject.finished else [f"{subject.name}  {status.phase}: {status.message}".rstrip(": ")]
    if status.aspects is not None and status.runs is None:
        lines += ["", "aspects  " + " · ".join(f"{name} {word}" for name, word in status.aspects.to_json().items())]
    if status.runs is not None:
        told = [] if subject.finished else [rate(subject), *over_all(subject)]
        lines += [*told, "", *table([[name.upper() for name in repeats.HEAD], *repeats.run_rows(subject)])]
    if status.reference is not None and status.reference.digest:
        reference = status.reference
        lines += [
            "",
            f"reference run: {count(sum(reference.objects), 'object')} at its end, {reference.changed} came or went",
        ]
    if status.marks:
        lines += ["", *table([("MARK", "SINCE START", "SEEN BY"), *_marks(subject)])]
    if status.starts:
        lines += ["", *table([[name.upper() for name in STARTS], *start_rows(subject)])]
    if levels := list(level_rows(subject)):
        lines += ["", *table([[name.upper() for name in LEVELS], *levels])]
    if subject.finished and (worked := list(workload_rows(subject))):
        lines += ["", *table([[name.upper() for name in WORKLOADS], *worked])]
    if status.injections:
        lines += ["", *table([INJECTIONS, *_injections(subject)])]
        if unlisted := status.injection_counts.total - len(status.injections):
            lines.append(f"and {count(unlisted, 'injection')} more")
    if kept := evidence(subject):
        lines += ["", f"evidence {kept}"]
    return lines


def _marks(subject: Subject) -> Iterator[Sequence[str]]:
    for mark in subject.status.marks:
        known = subject.stretch(mark)
        middle, error = (known.start + known.end) / 2, (known.end - known.start) / 2
        yield MARKS[mark.mark], f"{seconds(middle)} ±{seconds(error)}", mark.source


def _injections(subject: Subject) -> Iterator[Sequence[str]]:
    for i in subject.status.injections:
        state = f"{i.state} ({outcome(i)})" if i.reason else str(i.state)
        yield i.fault, i.on, i.node, str(i.vehicle), str(i.rung), state, f"{i.hits:,}", str(i.cleanup)
