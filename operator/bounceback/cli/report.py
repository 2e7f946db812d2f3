"""bounceback report: write the report of a finished experiment, or of a check that watches by itself."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from bounceback.cli.cluster import arguments as cluster_arguments
from bounceback.cli.cluster import connect
from bounceback.cli.documents import UnreadableError, read
from bounceback.cli.exits import PASSED, CommandError
from bounceback.cli.status import check, record_of
from bounceback.report.subject import Subject

Json = dict[str, Any]
STRANGE: Final = (ValueError, KeyError, TypeError, AttributeError)
"""What reading files raises that hold something else than evidence of this version."""


class Form(StrEnum):
    MARKDOWN = "md"
    JSON = "json"
    JUNIT = "junit"
    HTML = "html"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="the experiment")
    parser.add_argument("--check", action="store_true", help="NAME is a RecoveryCheck: report the outages that it saw")
    parser.add_argument(
        "--from", dest="source", metavar="FILE", help='its YAML or JSON, instead of the cluster ("-": standard input)'
    )
    parser.add_argument(
        "--evidence",
        metavar="DIR",
        help="its evidence as files (bounceback evidence --to, or a volume's); alone, the experiment is taken from it",
    )
    parser.add_argument("-o", "--output", type=Form, choices=list(Form), default=Form.MARKDOWN, help="the form")
    parser.add_argument("--file", metavar="FILE", help="where to write it, instead of the standard output")
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    kind = "RecoveryCheck" if options.check else "FaultExperiment"
    if options.check and options.evidence:
        raise CommandError("--evidence is for experiments; a check that watches by itself keeps its record in status")
    if options.source:
        body = _from_file(options.source, options.name, kind)
    elif options.evidence and not options.name:
        body = _from_evidence(options.evidence)
    else:
        body = _from_cluster(options)
    text = _of_check(body, options.output) if options.check else _of_experiment(body, options)
    if options.file is None:
        sys.stdout.write(text)
        return PASSED
    try:
        Path(options.file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{options.file} cannot be written: {error.strerror}") from error
    print(f"{options.file} written", file=sys.stderr)
    return PASSED


def _of_check(body: Json, form: Form) -> str:
    from bounceback.report.outages import as_json, as_markdown

    if form not in (Form.MARKDOWN, Form.JSON):
        raise CommandError(f"-o {form} is for experiments; the report of a check is md or json")
    return (as_json if form is Form.JSON else as_markdown)(record_of(body))


def _of_experiment(body: Json, options: argparse.Namespace) -> str:
    try:
        subject = Subject.of(body)
    except ValueError as error:
        raise CommandError(f"{options.name or options.source} {error}") from error
    if not subject.finished:
        raise CommandError(
            f"{subject.namespace}/{subject.name} is not finished, its phase is {subject.status.phase}; "
            f"see it with: bounceback status -n {subject.namespace} {subject.name}"
        )
    return _writer(options.output)(_with_evidence(subject, body, options))


def _with_evidence(subject: Subject, body: Json, options: argparse.Namespace) -> Subject:
    """Read where it is there; a report is written without it, too, and says why."""
    from bounceback.cli.evidence import of_cluster, of_source
    from bounceback.report.kept import with_evidence, without_evidence

    told = subject.status.evidence
    if not options.evidence and (options.source or told is None or not told.digest):
        return subject
    digest = told.digest or None if told else None
    try:
        if options.evidence:
            found = of_source(options.evidence, digest)
        else:
            found = of_cluster(connect(options), body, None, digest)
        return with_evidence(subject, found.opened)
    except (CommandError, *STRANGE) as error:
        if options.evidence:
            raise CommandError(f"--evidence {options.evidence}: {error}") from error
        return without_evidence(subject, f"not read: {error}")


def _from_evidence(place: str) -> Json:
    from bounceback.cli.evidence import of_source
    from bounceback.report.kept import experiment_of

    try:
        return experiment_of(of_source(place, None).opened)
    except STRANGE as error:
        raise CommandError(f"--evidence {place}: {error}") from error


def _writer(form: Form) -> Callable[[Subject], str]:
    """Only the form that is asked for is loaded."""
    match form:
        case Form.MARKDOWN:
            from bounceback.report.markdown import as_markdown

            return as_markdown
        case Form.JSON:
            from bounceback.report.record import as_json

            return as_json
        case Form.JUNIT:
            from bounceback.report.junit import as_junit

            return as_junit
        case Form.HTML:
            from bounceback.report.page import as_page

            return as_page


def _from_cluster(options: argparse.Namespace) -> Json:
    if not options.name:
        raise CommandError("name it, or its file with --from")
    cluster = connect(options)
    namespace = options.namespace or cluster.namespace
    if options.check:
        return check(cluster, namespace, options.name)
    from bounceback.cli.evidence import settled

    return settled(cluster, namespace, options.name)


def _from_file(file: str, name: str | None, kind: str) -> Json:
    """The object of that kind and name, or the only one."""
    try:
        bodies = [document.data for document in read(file) if document.data.get("kind") == kind]
    except UnreadableError as error:
        raise CommandError(str(error)) from error
    names = [body.get("metadata", {}).get("name") for body in bodies]
    if name is None and len(bodies) == 1:
        return bodies[0]
    if name not in names:
        raise CommandError(f"{file} holds {json.dumps(names)}; NAME must be one of them")
    return bodies[names.index(name)]
