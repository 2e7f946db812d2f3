"""bounceback report: write the report of a finished experiment."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

from bounceback.cli.cluster import arguments as cluster_arguments
from bounceback.cli.cluster import connect
from bounceback.cli.documents import UnreadableError, read
from bounceback.cli.exits import PASSED, CommandError
from bounceback.cli.status import experiment
from bounceback.report.subject import Subject

Json = dict[str, Any]


class Form(StrEnum):
    MARKDOWN = "md"
    JSON = "json"
    JUNIT = "junit"
    HTML = "html"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="the experiment")
    parser.add_argument(
        "--from", dest="source", metavar="FILE", help='its YAML or JSON, instead of the cluster ("-": standard input)'
    )
    parser.add_argument("-o", "--output", type=Form, choices=list(Form), default=Form.MARKDOWN, help="the form")
    parser.add_argument("--file", metavar="FILE", help="where to write it, instead of the standard output")
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    body = _from_file(options.source, options.name) if options.source else _from_cluster(options)
    try:
        subject = Subject.of(body)
    except ValueError as error:
        raise CommandError(f"{options.name or options.source} {error}") from error
    if not subject.finished:
        raise CommandError(
            f"{subject.namespace}/{subject.name} is not finished, its phase is {subject.status.phase}; "
            f"see it with: bounceback status -n {subject.namespace} {subject.name}"
        )
    text = _writer(options.output)(subject)
    if options.file is None:
        sys.stdout.write(text)
        return PASSED
    try:
        Path(options.file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{options.file} cannot be written: {error.strerror}") from error
    print(f"{options.file} written", file=sys.stderr)
    return PASSED


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
        raise CommandError("name the experiment, or its file with --from")
    cluster = connect(options)
    return experiment(cluster, options.namespace or cluster.namespace, options.name)


def _from_file(file: str, name: str | None) -> Json:
    """The experiment of that name, or the only one."""
    try:
        bodies = [document.data for document in read(file) if document.data.get("kind") == "FaultExperiment"]
    except UnreadableError as error:
        raise CommandError(str(error)) from error
    names = [body.get("metadata", {}).get("name") for body in bodies]
    if name is None and len(bodies) == 1:
        return bodies[0]
    if name not in names:
        raise CommandError(f"{file} holds {json.dumps(names)}; NAME must be one of them")
    return bodies[names.index(name)]
