"""bounceback evidence: find the evidence of a run, hold it against its digest, and write it to files."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bounceback.api import FINALIZER
from bounceback.cli.cluster import CONFIG_MAPS, Cluster, RefusedError, connect
from bounceback.cli.cluster import arguments as cluster_arguments
from bounceback.cli.exits import ERROR, FAILED, INCONCLUSIVE, PASSED, CommandError
from bounceback.cli.follow import Changed, Follower, Gone, Key, is_finished
from bounceback.cli.status import experiment, table
from bounceback.engine.keeping import TOLD
from bounceback.report import folder, maps, objects
from bounceback.report.bundle import Bundle, Opened, opened
from bounceback.report.subject import Subject
from bounceback.report.words import count, size
from bounceback.types.outcome import EvidenceKind
from bounceback.types.run_names import run_name

Json = dict[str, Any]
EXPERIMENT_FILE: Final = "experiment.json"
WAIT_SECONDS: Final = 45.0
"""For the evidence of a run that has just finished: longer than the operator tries to keep it."""


@dataclass(frozen=True)
class Found:
    """What there is of a run, as it is kept and as it was opened."""

    bundle: Bundle
    opened: Opened


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="the experiment")
    parser.add_argument("--run", dest="number", type=_number, metavar="N", help="of repeated runs this one, from 1")
    parser.add_argument("--from", dest="source", metavar="DIR", help="a folder or s3://… that holds it")
    parser.add_argument("--to", metavar="DIR", help="write it there, with the experiment; must be new or empty")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="the form of what is printed")
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Passed: it is whole and as it was written. Failed: something was changed. Inconclusive: something is missing."""
    if not options.name and not options.source:
        raise CommandError("name the experiment, or a folder with --from")
    body, digest, found = None, None, None
    if options.name:
        cluster = connect(options)
        body = settled(cluster, options.namespace or cluster.namespace, options.name)
        digest = _digest(body, options.number)
        found = None if options.source else of_cluster(cluster, body, options.number, digest)
    found = found or of_source(options.source, digest)
    if options.to:
        _write(Path(options.to), found.bundle, body)
    _print(found, options)
    if found.opened.whole:
        return PASSED
    return FAILED if found.opened.changed else INCONCLUSIVE


def settled(cluster: Cluster, namespace: str, name: str) -> Json:
    """The experiment; one that has just finished is waited for until it tells what became of its evidence."""
    body = experiment(cluster, namespace, name)
    if not is_finished(body) or _is_told(body):
        return body
    until = time.monotonic() + WAIT_SECONDS
    follower = Follower(cluster, [Key.of(body)], _is_told)
    while not _is_told(body) and (news := follower.next(until - time.monotonic())) is not None:
        if isinstance(news, Changed):
            body = news.body
        elif isinstance(news, Gone) or news.final:  # what is known is all that there will be
            break
    return body


def _is_told(body: Json) -> bool:
    """What became of its evidence, or that nobody keeps any."""
    state = ((body.get("status") or {}).get("evidence") or {}).get("state")
    return state in TOLD or FINALIZER not in (body["metadata"].get("finalizers") or [])


def of_cluster(cluster: Cluster, body: Json, number: int | None, digest: str | None) -> Found:
    """From where its status says. Raises CommandError where there is none, or it cannot be read."""
    metadata = body["metadata"]
    namespace, uid = metadata["namespace"], metadata["uid"]
    told = (body.get("status") or {}).get("evidence") or {}
    if told.get("store") == "Volume":
        raise CommandError(
            f"the evidence is on the operator's volume, {told.get('place')}; copy it, and name the folder with --from"
        )
    run = run_name(uid, number) if number else _last_run(body)
    if told.get("store") == "ObjectStorage" and told.get("place"):
        return of_source(_of_run(told["place"], run), digest)
    try:
        head = cluster.get(CONFIG_MAPS, namespace, maps.head_name(run))
        if head is None:
            gone = (
                "it was given up for newer, or deleted" if told else "the run never began, or the operator keeps none"
            )
            why = told.get("message") or gone
            raise CommandError(f"no evidence of {namespace}/{metadata['name']} is kept ({maps.head_name(run)}): {why}")
        names = [name for listed in maps.parts_of(head).values() for name in listed]
        parts = {name: part for name in names if (part := cluster.get(CONFIG_MAPS, namespace, name)) is not None}
        return _opened(*maps.joined(head, parts), digest)
    except RefusedError as error:
        raise CommandError(f"the evidence cannot be read: {error.words}", error.code) from error
    except ValueError as error:
        raise CommandError(f"ConfigMap {namespace}/{maps.head_name(run)}: {error}", ERROR) from error


def _why_none(told: Json) -> str:
    if not told:
        return "the run never began, or the operator keeps none"
    return str(told.get("message") or "it was given up for newer, or deleted")


def _of_run(place: str, run: str) -> str:
    try:
        return objects.of_run(place, run)
    except ValueError as error:
        raise CommandError(f"status.evidence.place {error}", ERROR) from error


def of_source(source: str, digest: str | None) -> Found:
    """What `--from` and `--evidence` name: a folder, or a place in object storage."""
    if not source.startswith(objects.SCHEME):
        return of_folder(Path(source), digest)
    from bounceback.cli.evidence_objects import read  # its library is loaded where it is used

    try:
        return _opened(*read(source), digest)
    except ValueError as error:
        raise CommandError(f"{source}: {error}") from error


def of_folder(place: Path, digest: str | None) -> Found:
    """From files. Without a digest, that of the experiment beside it counts, where there is one."""
    try:
        beside = place / EXPERIMENT_FILE
        if digest is None and beside.is_file():
            body = json.loads(beside.read_text(encoding="utf-8"))
            digest = ((body.get("status") or {}).get("evidence") or {}).get("digest") or None
        return _opened(*folder.read(place), digest)
    except OSError as error:
        raise CommandError(f"{place} holds no evidence: {error.strerror}: {error.filename}") from error
    except (ValueError, AttributeError) as error:
        raise CommandError(f"{place}: {error}") from error


def _opened(manifest: bytes, found: Mapping[EvidenceKind, bytes], digest: str | None) -> Found:
    return Found(Bundle(manifest, found), opened(manifest, found, digest))


def _digest(body: Json, number: int | None) -> str | None:
    """As the status has it. Raises CommandError for a run that there is not."""
    try:
        status = Subject.of(body).status
    except ValueError as error:
        raise CommandError(f"{body['metadata']['name']} {error}") from error
    if status.runs is None and number not in (None, 1):
        raise CommandError(f"--run {number}: {body['metadata']['name']} has one run")
    if status.runs is not None and number not in (None, status.runs.number):
        listed = {run.number: run.evidence for run in status.runs.listed}
        if number not in listed:
            raise CommandError(f"--run {number}: the runs that are told of are {min(listed)} to {max(listed)}")
        return listed[number]
    return (status.evidence.digest or None) if status.evidence else None


def _last_run(body: Json) -> str:
    return Subject.of(body).status.run or body["metadata"]["uid"]


def _write(place: Path, bundle: Bundle, body: Json | None) -> None:
    try:
        if place.exists() and any(place.iterdir()):
            raise CommandError(f"--to {place}: must be new or empty")
        failed = folder.written(place, bundle)
        if body is not None:
            (place / EXPERIMENT_FILE).write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{place} cannot be written: {error.strerror}") from error
    if failed:
        raise CommandError(f"{place}: {'; '.join(f'{kind}: {why}' for kind, why in failed.items())}", ERROR)


def _print(found: Found, options: argparse.Namespace) -> None:
    evidence, manifest = found.opened, found.opened.manifest
    if options.output == "json":
        told = {"digest": evidence.digest, "verified": evidence.whole and evidence.known, "problems": evidence.problems}
        print(json.dumps({**told, "manifest": manifest}, indent=2))
        return
    print(f"{manifest.get('namespace')}/{manifest.get('name')}  run {manifest.get('run')}  {manifest.get('verdict')}")
    print(f"{evidence.digest}  {'as in the status' if evidence.known and evidence.whole else _unsure(evidence)}\n")
    rows = [("KIND", "LINES", "BYTES", "KEPT")]
    for kind in EvidenceKind:
        entry = manifest["kinds"].get(str(kind)) or {}
        bytes_ = size(entry["bytes"]) if "bytes" in entry else ""
        rows.append((str(kind), f"{entry.get('lines', '')}", bytes_, "yes" if evidence.has(kind) else "no"))
    print("\n".join(table(rows)))
    if evidence.problems:
        print("\n" + "\n".join(evidence.problems))
    if options.to:
        print(f"\n{count(len(found.bundle.packed), 'file')} and the manifest are in {options.to}")


def _unsure(evidence: Opened) -> str:
    return "held against no digest: there is no experiment to hold it against" if not evidence.known else "NOT WHOLE"


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number, 1 or more")
    return int(text)
