"""What is wrong with a set of files, found without a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel

from bounceback.api import API_VERSION, GROUP
from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.experiment import FaultExperimentSpec, FaultTiming
from bounceback.api.kinds import KINDS, Kind
from bounceback.api.policy import FaultPolicySpec, PolicyAllowances
from bounceback.api.problems import Problem, parse
from bounceback.cli.documents import Document, Place, UnreadableError, files_of, read
from bounceback.cli.linting_workloads import against_workloads
from bounceback.engine.collapse import least_samples, longest_look
from bounceback.engine.overlap import BY_THE_RELAY, delays_that_meet, summed
from bounceback.engine.policy import changes_of_cluster
from bounceback.engine.repeats import too_few
from bounceback.engine.starting import unseen
from bounceback.faults import ObjectFault
from bounceback.faults.client_fault import ClientFault
from bounceback.faults.node_fault import NodeFault
from bounceback.types.fields import Model, ObjectName
from bounceback.types.outcome import Expect
from bounceback.types.rules import Path

Json = dict[str, Any]
TOP_LEVEL: Final = ("apiVersion", "kind", "metadata", "spec", "status")


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing to correct (an error) or to look at (a warning)."""

    place: Place
    severity: Severity
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.severity}: {self.text}"


@dataclass(frozen=True)
class Object:
    """A document of ours that is in order. `namespace` is "" where the file leaves it to the command."""

    kind: Kind
    name: str
    namespace: str
    spec: BaseModel
    document: Document

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind.kind} {where}{self.name}"


@dataclass
class Linted:
    """What the files hold."""

    objects: list[Object] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # objects of others: "Deployment web"
    remarks: list[Remark] = field(default_factory=list)

    @property
    def errors(self) -> list[Remark]:
        return [remark for remark in self.remarks if remark.severity is Severity.ERROR]

    @property
    def experiments(self) -> list[tuple[Object, FaultExperimentSpec]]:
        return [(each, each.spec) for each in self.objects if isinstance(each.spec, FaultExperimentSpec)]

    @property
    def checks(self) -> list[tuple[Object, RecoveryCheckSpec]]:
        return [(each, each.spec) for each in self.objects if isinstance(each.spec, RecoveryCheckSpec)]

    @property
    def policies(self) -> list[tuple[Object, FaultPolicySpec]]:
        return [(each, each.spec) for each in self.objects if isinstance(each.spec, FaultPolicySpec)]


class _Name(Model):
    """For the bounds of metadata.name alone."""

    name: ObjectName


def lint(files: Iterable[str]) -> Linted:
    """Every file is read, of folders those in them, whatever is wrong with the others."""
    found = Linted()
    for file in files_of(files):
        try:
            documents = read(file)
        except UnreadableError as error:
            found.remarks.append(Remark(error.place, Severity.ERROR, error.message))
            continue
        for document in documents:
            _document(document, found)
    _twice(found)
    _references(found)
    return found


def _document(document: Document, found: Linted) -> None:
    data = document.data
    problems: list[Problem] = []
    group, _, version = str(data.get("apiVersion") or "").partition("/")
    if group != GROUP:
        _foreign(document, found)
        return
    kind = next((kind for kind in KINDS if kind.kind == data.get("kind")), None)
    if f"{group}/{version}" != API_VERSION:
        problems.append(Problem(("apiVersion",), f"must be {API_VERSION}"))
    elif kind is None:
        problems.append(Problem(("kind",), f"must be {' or '.join(k.kind for k in KINDS)}; found {data.get('kind')!r}"))
    else:
        problems += _metadata(data)
        spec, wrong = parse(kind.spec, data.get("spec")) if "spec" in data else (None, (_no_spec(),))
        problems += wrong
        problems += [Problem((key,), _no_such(key)) for key in data if key not in TOP_LEVEL]
        problems += [Problem(("metadata", "namespace"), _of_cluster(kind))] if _misplaced(kind, data) else []
        if spec is not None:
            problems += _expressions(spec)
        if spec is not None and not problems:
            metadata = data["metadata"]
            name = metadata.get("name") or metadata["generateName"]
            found.objects.append(Object(kind, name, metadata.get("namespace") or "", spec, document))
    found.remarks += [Remark(document.place(p.path), Severity.ERROR, str(p)) for p in problems]


def _foreign(document: Document, found: Linted) -> None:
    data = document.data
    metadata = data.get("metadata")
    if isinstance(data.get("apiVersion"), str) and isinstance(data.get("kind"), str) and isinstance(metadata, dict):
        found.others.append(f"{data['kind']} {metadata.get('name') or ''}".strip())
    else:
        text = "must be a Kubernetes object: a mapping with apiVersion, kind and metadata"
        found.remarks.append(Remark(document.place(()), Severity.ERROR, text))


def _no_spec() -> Problem:
    return Problem(("spec",), "must be given")


def _no_such(key: str) -> str:
    return f"there is no such field; allowed: {', '.join(TOP_LEVEL)}"


def _metadata(data: Mapping[str, Any]) -> Iterator[Problem]:
    metadata = data.get("metadata")
    if not isinstance(metadata, dict):
        yield Problem(("metadata",), "must be given: a mapping with name")
    elif "name" in metadata:
        yield from parse(_Name, {"name": metadata["name"]}, ("metadata",))[1]
    elif not metadata.get("generateName"):
        yield Problem(("metadata", "name"), "must be given, or generateName")
    namespace = metadata.get("namespace") if isinstance(metadata, dict) else None
    if namespace is not None:
        yield from parse(_Name, {"name": namespace}, ("metadata",))[1]


def _misplaced(kind: Kind, data: Mapping[str, Any]) -> bool:
    metadata = data.get("metadata")
    return not kind.namespaced and isinstance(metadata, dict) and metadata.get("namespace") is not None


def _of_cluster(kind: Kind) -> str:
    return f"must not be given: a {kind.kind} is of the whole cluster"


def _expressions(spec: BaseModel) -> Iterator[Problem]:
    """The expressions of a check, each held to the names that it can see."""
    if not isinstance(spec, RecoveryCheckSpec):
        return
    from bounceback.engine.invariants import expression_problems  # only checks need it, and it takes its time to load

    for path, wrong in expression_problems(spec):
        yield Problem(("spec", *path), f"must be CEL: {wrong}")


def _twice(found: Linted) -> None:
    seen: dict[tuple[str, str, str], Place] = {}
    for each in found.objects:
        if "name" not in each.document.data["metadata"]:
            continue
        key = (each.kind.kind, each.namespace, each.name)
        place = each.document.place(("metadata", "name"))
        if key in seen:
            found.remarks.append(
                Remark(place, Severity.ERROR, f"metadata.name: {each} is given twice; first in {seen[key]}")
            )
        seen.setdefault(key, place)


def _references(found: Linted) -> None:
    """What only several documents together can tell."""
    checks = {(each.namespace, each.name): spec for each, spec in found.checks}
    for each, spec in found.experiments:
        known = {c.name: checks[each.namespace, c.name] for c in spec.checks if (each.namespace, c.name) in checks}
        missing = _not_allowed(each.namespace, spec, [policy for _, policy in found.policies])
        for severity, problem in (*_between(spec, known), *missing):
            found.remarks.append(Remark(each.document.place(problem.path), severity, str(problem)))


def _not_allowed(
    namespace: str, spec: FaultExperimentSpec, policies: Iterable[FaultPolicySpec]
) -> Iterator[tuple[Severity, Problem]]:
    """Faults that take a policy: none of these files may, as far as names tell, be it; labels are the cluster's."""
    near = [policy.allow for policy in policies if _may_be_for(policy, namespace)]
    beyond = changes_of_cluster(spec)
    for index, entry in enumerate(spec.faults):
        fault = entry.fault
        path: Path = ("spec", "faults", index, fault.kind)
        # Which pods have their node's own network only the cluster knows.
        if isinstance(fault, NodeFault):
            allowed = any(fault.node_kind in each.nodes.faults for each in near if each.nodes is not None)
        elif isinstance(fault, ObjectFault) and entry.name in beyond:
            path = (*path, fault.field)
            allowed = all(
                _may_be_about(near, fault, beyond[entry.name].kind, n) for n in beyond[entry.name].names or ()
            )
        else:
            continue
        if not allowed:
            text = (
                "takes a FaultPolicy that allows it to experiments of this namespace; none in these files does, so the "
                "cluster must have one when the run starts"
            )
            yield Severity.WARNING, Problem(path, text)


def _may_be_about(near: Iterable[PolicyAllowances], fault: ObjectFault, kind: str, name: str) -> bool:
    return any(
        fault.field in allowed.faults and kind == allowed.kind and (allowed.names is None or name in allowed.names)
        for each in near
        for allowed in each.objects or ()
    )


def _may_be_for(policy: FaultPolicySpec, namespace: str) -> bool:
    names = policy.experiments.namespaces.names
    return not namespace or names is None or namespace in names


def _unfit_objects(spec: FaultExperimentSpec) -> Iterator[tuple[Severity, Problem]]:
    """Kinds of which nothing can be the target of that fault, whatever the cluster holds."""
    targets = {target.name: (index, target.objects) for index, target in enumerate(spec.targets)}
    for entry in spec.faults:
        index, objects = targets[entry.target]
        if not isinstance(entry.fault, ObjectFault) or objects is None:
            continue
        if unfit := entry.fault.unfit(objects.api_version, objects.kind):
            yield Severity.ERROR, Problem(("spec", "targets", index, "objects", "kind"), unfit)


def _doubtful_requests(spec: FaultExperimentSpec) -> Iterator[tuple[Severity, Problem]]:
    for index, entry in enumerate(spec.faults):
        if isinstance(entry.fault, ClientFault):
            for number, each in enumerate(entry.fault.requests):
                for field, why in each.doubtful():
                    path: Path = ("spec", "faults", index, entry.fault.kind, "requests", number, field)
                    yield Severity.WARNING, Problem(path, why)


def _between(spec: FaultExperimentSpec, checks: Mapping[str, RecoveryCheckSpec]) -> Iterator[tuple[Severity, Problem]]:
    for index, reference in enumerate(spec.checks):
        if reference.name not in checks:
            path: Path = ("spec", "checks", index, "name")
            text = f"RecoveryCheck {reference.name} is not in these files; the cluster must have it when the run starts"
            yield Severity.WARNING, Problem(path, text)
    for index, bound in enumerate(spec.abort_when):
        if bound.probe is not None and bound.check in checks:
            probes = [probe.name for probe in checks[bound.check].probes]
            if bound.probe not in probes:
                path = ("spec", "abortWhen", index, "probe")
                text = f"must be one of the probes of {bound.check}: {', '.join(probes) or '(it has none)'}"
                yield Severity.ERROR, Problem(path, text)
    yield from _awaited(spec, checks)
    yield from ((Severity.WARNING, problem) for problem in against_workloads(spec, checks))
    yield from ((Severity.WARNING, problem) for problem in _adding_up(spec))
    if told := too_few(spec):
        yield Severity.ERROR, Problem(("spec", "runs", "count"), told)
    yield from _unfit_objects(spec)
    yield from _doubtful_requests(spec)
    all_known = len(checks) == len(spec.checks)
    if all_known:
        yield from _undeclared(spec.expect, checks)


def _adding_up(spec: FaultExperimentSpec) -> Iterator[Problem]:
    """Delays that the same packets get; which pods two targets have in common only the cluster knows."""
    names = [entry.name for entry in spec.faults]
    for one, other in delays_that_meet(spec.faults):
        if one.target == other.target:
            told = f"{summed(one, other, [f'target {one.target}'])} {BY_THE_RELAY}"
            yield Problem(("spec", "faults", names.index(other.name)), told)


def _awaited(spec: FaultExperimentSpec, checks: Mapping[str, RecoveryCheckSpec]) -> Iterator[tuple[Severity, Problem]]:
    """Probes and signals that no check has, and limits that are over before what is waited for can be expected."""
    soonest: dict[str, int] = {}
    durations = {entry.name: entry.duration_seconds for entry in spec.faults}
    for index, entry in enumerate(spec.faults):
        when = entry.start_when
        before = soonest.get(when.fault, 0) if when and when.fault else 0
        if when is not None and when.cleared:
            before += durations[when.cleared]
        soonest[entry.name] = before + entry.start_after_seconds
        if when is None:
            continue
        if when.within_seconds <= before:
            text = f"{when.words} {before} s after the beginning, if all of it lasts as long as it is to: too late"
            yield Severity.WARNING, Problem(("spec", "faults", index, "startWhen", "withinSeconds"), text)
    for index, entry in enumerate(spec.faults):
        if (told := _too_short(entry, checks)) is not None:
            yield Severity.WARNING, Problem(("spec", "faults", index, "pattern", "ramp", "steps"), told)
    for path, text in unseen(spec, checks):
        yield Severity.ERROR, Problem(("spec", *path), text)


def _too_short(entry: FaultTiming, checks: Mapping[str, RecoveryCheckSpec]) -> str | None:
    """Why nothing can be said of the steps of a ramp."""
    asked, ramp = entry.collapse, entry.pattern.ramp if entry.pattern else None
    if asked is None or ramp is None or asked.check not in checks:
        return None
    probes = [p for p in checks[asked.check].probes if asked.probe in (None, p.name)]
    length, blind = entry.duration_seconds / ramp.steps, longest_look(probes)
    samples = sum(max(0.0, length - blind) / (p.period_milliseconds / 1000) for p in probes)
    needed = least_samples(asked.below_percent)
    if not probes or samples >= needed:
        return None
    return (
        f"a step takes {length:.1f} s, of which the first {blind:.1f} s (timeoutMilliseconds) are left out: about "
        f"{samples:.0f} samples each, and it takes {needed} to say that success is below {asked.below_percent} %"
    )


def _undeclared(expect: Expect, checks: Mapping[str, RecoveryCheckSpec]) -> Iterator[tuple[Severity, Problem]]:
    """What an outcome is judged by, and no check has."""
    needs = {
        Expect.RECOVER: (),
        Expect.FAIL_SAFE: ("errorState",),
        Expect.MANUAL: ("detection", "errorState", "probes"),
    }
    declared = {section for check in checks.values() for section, _, _ in check.sections()}
    for section in needs[expect]:
        if section not in declared:
            text = f"{expect} needs a check that declares {section}; none of {', '.join(checks)} does"
            yield Severity.ERROR, Problem(("spec", "expect"), text)
