"""bounceback run: check files, make their checks and experiments, and wait for the verdicts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bounceback.api import API_VERSION
from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.kinds import FAULT_EXPERIMENT, FAULT_POLICY, RECOVERY_CHECK
from bounceback.api.problems import parse
from bounceback.cli.cluster import CHECKS, EXPERIMENTS, Cluster, RefusedError, connect
from bounceback.cli.cluster import arguments as cluster_arguments
from bounceback.cli.exits import BAD_INPUT, CommandError, gravest
from bounceback.cli.follow import Key, Lost, is_finished, watch
from bounceback.cli.linting import Linted, Object, lint
from bounceback.cli.progress import output_argument
from bounceback.cli.waiting import Waiting
from bounceback.types.rules import Path

Json = dict[str, Any]


@dataclass(frozen=True)
class Placed:
    """An object of a file, and how it goes to the API server."""

    each: Object
    body: Json

    @property
    def namespace(self) -> str:
        return str(self.body["metadata"]["namespace"])


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help='YAML files, or folders of them; "-" is the standard input'
    )
    parser.add_argument("--wait", action="store_true", help="show progress and wait for the verdicts")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="with --wait: cancel what lasts longer")
    parser.add_argument("--keep", action="store_true", help="with --timeout: leave running what lasts longer")
    parser.add_argument("--parallel", action="store_true", help="all experiments at once, not one after another")
    parser.add_argument("--replace", action="store_true", help="delete experiments of these names that are finished")
    output_argument(parser)
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    found = lint(options.files)
    for remark in found.errors:
        print(remark, file=sys.stderr)
    if found.errors:
        return BAD_INPUT
    _refuse_contradictions(found, options)
    for other in found.others:
        print(f"{other} is not ours, and left alone", file=sys.stderr)
    for policy, _ in found.policies:
        print(f"{policy} is left alone: who looks after the cluster applies it with kubectl", file=sys.stderr)
    cluster = connect(options)
    ours = (each for each in found.objects if each.kind is not FAULT_POLICY)
    placed = [_placed(cluster, each, options.namespace) for each in ours]
    for check in (each for each in placed if each.each.kind is RECOVERY_CHECK):
        _apply_check(cluster, check)
    experiments = [each for each in placed if each.each.kind is FAULT_EXPERIMENT]
    for experiment in experiments:
        _refuse_missing_checks(cluster, experiment)
    return _start(cluster, experiments, options)


def _refuse_contradictions(found: Linted, options: argparse.Namespace) -> None:
    if not found.experiments:
        raise CommandError("the files hold no FaultExperiment; there is nothing to run")
    if len(found.experiments) > 1 and not (options.wait or options.parallel):
        raise CommandError("several experiments run one after another, which takes --wait; or pass --parallel")
    if options.timeout is not None and not options.wait:
        raise CommandError("--timeout is about waiting; pass --wait too")
    if options.keep and options.timeout is None:
        raise CommandError("--keep says what happens after --timeout; pass that too")


def _start(cluster: Cluster, experiments: Sequence[Placed], options: argparse.Namespace) -> int:
    """One after another, or all at once; what was cancelled by Ctrl-C is not followed by another."""
    groups = [experiments] if options.parallel else [[each] for each in experiments]
    codes = []
    for group in groups:
        keys = [_create(cluster, each, options.replace) for each in group]
        if not options.wait:
            for key in keys:
                print(f"{key} begun; see it with: bounceback status -n {key.namespace} {key.name}")
            continue
        waiting = Waiting(cluster, keys, options.output, timeout=options.timeout, keep=options.keep)
        codes.append(waiting.run())
        if waiting.cancelled:
            break
    return gravest(codes)


def _placed(cluster: Cluster, each: Object, namespace: str | None) -> Placed:
    """The object as it goes to the API server: in the namespace of the file, else of -n, else of the context."""
    if namespace and each.namespace and namespace != each.namespace:
        place = each.document.place(("metadata", "namespace"))
        raise CommandError(f"{place}: metadata.namespace is {each.namespace}, and -n says {namespace}; they must agree")
    data = each.document.data
    metadata = {**data["metadata"], "namespace": each.namespace or namespace or cluster.namespace}
    body = {"apiVersion": API_VERSION, "kind": each.kind.kind, "metadata": metadata, "spec": data["spec"]}
    return Placed(each, body)


def _apply_check(cluster: Cluster, check: Placed) -> None:
    """Create it, or give the one that is there this spec; its labels and annotations are added to."""
    metadata = check.body["metadata"]
    with _Pointing(check.each):
        there = cluster.get(CHECKS, check.namespace, check.each.name)
        if there is None:
            cluster.create(CHECKS, check.body)
            return
        for part in ("labels", "annotations"):
            there["metadata"][part] = {**(there["metadata"].get(part) or {}), **(metadata.get(part) or {})}
        cluster.replace(CHECKS, {**there, "spec": check.body["spec"]})


def _refuse_missing_checks(cluster: Cluster, experiment: Placed) -> None:
    """Before anything is begun; who may not read checks leaves it to the operator to say so."""
    spec, where = _spec(experiment), experiment.namespace
    for index, reference in enumerate(spec.checks):
        try:
            there = cluster.get(CHECKS, where, reference.name)
        except RefusedError as error:
            if error.status == 403:
                continue
            raise
        if there is None:
            known = [check["metadata"]["name"] for check in cluster.list(CHECKS, where)]
            place = experiment.each.document.place(("spec", "checks", index, "name"))
            raise CommandError(
                f"{place}: spec.checks[{index}].name: there is no RecoveryCheck {reference.name} in {where}; "
                f"it must be one of {', '.join(known) or '(there is none)'}, or be in the files"
            )


def _create(cluster: Cluster, experiment: Placed, replace: bool) -> Key:
    """The experiment that runs now: a new one, or the same one that runs already."""
    body, namespace = experiment.body, experiment.namespace
    with _Pointing(experiment.each):
        name = body["metadata"].get("name")
        there = cluster.get(EXPERIMENTS, namespace, name) if name else None
        if there is None:
            return Key.of(cluster.create(EXPERIMENTS, body))
        key = Key.of(there)
        if is_finished(there):
            if not replace:
                verdict = there["status"].get("verdict")
                raise CommandError(
                    f"{key} has run already ({verdict}), and an experiment runs once; pass --replace to delete it and "
                    "run it again, or give it another name"
                )
            _delete(cluster, key)
            return Key.of(cluster.create(EXPERIMENTS, body))
    if not _same(there, _spec(experiment)):
        raise CommandError(
            f"{key} is running with another spec, which is fixed once it has started; "
            f"wait for it, or end it with: bounceback cancel -n {key.namespace} {key.name}"
        )
    print(f"{key} is running already; following it", file=sys.stderr)
    return key


def _spec(experiment: Placed) -> FaultExperimentSpec:
    assert isinstance(experiment.each.spec, FaultExperimentSpec)
    return experiment.each.spec


def _delete(cluster: Cluster, key: Key) -> None:
    """And wait until it is gone: its finalizer is the operator's to take off."""
    cluster.delete(EXPERIMENTS, key.namespace, key.name, key.uid)
    for news in watch(cluster, key, until=lambda _: False):
        if isinstance(news, Lost):
            print(f"{key} is being deleted, and out of sight: {news.why}", file=sys.stderr)


def _same(there: Json, spec: FaultExperimentSpec) -> bool:
    """The same experiment, whatever was cancelled meanwhile."""
    known, _ = parse(FaultExperimentSpec, there["spec"])
    return known is not None and known.model_copy(update={"cancel": spec.cancel}) == spec


class _Pointing:
    """Puts the file's line before what the API server says of a field."""

    def __init__(self, each: Object) -> None:
        self._each = each

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, RefusedError):
            raise CommandError(_pointed(self._each, error), error.code) from error


def _pointed(each: Object, error: RefusedError) -> str:
    document = each.document
    if error.causes:
        lines = [f"{document.place(_path(field))}: {field}: {message}" for field, message in error.causes]
        return f"the API server refuses {each}:\n  " + "\n  ".join(lines)
    return f"the API server refuses {each} ({document.place(())}): {error.words}"


def _path(field: str) -> Path:
    """spec.faults[0].target as a path."""
    parts: list[str | int] = []
    for word in field.split("."):
        name, *indices = word.replace("]", "").split("[")
        parts += [name, *(int(index) if index.isdecimal() else index for index in indices)]
    return tuple(parts)
