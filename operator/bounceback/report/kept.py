"""What a report reads in the evidence: all injections, and how long answers took before, during and after the fault."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, Final

from pydantic import Field

from bounceback.api.evidence_status import EvidenceStatus
from bounceback.api.status import InjectionStatus
from bounceback.report.bundle import Opened
from bounceback.report.latencies import Course, course
from bounceback.report.redact import redact
from bounceback.report.subject import Subject
from bounceback.report.words import size
from bounceback.types.fields import Model
from bounceback.types.outcome import EvidenceKind, EvidenceState, Mark

Json = dict[str, Any]
STATES: Final = {
    EvidenceState.KEPT: "kept",
    EvidenceState.PARTIAL: "kept in part",
    EvidenceState.NOT_KEPT: "not kept",
    EvidenceState.DOUBTFUL: "not kept yet",
    EvidenceState.WRITING: "being written",
}
LATENCY: Final = ("probe", "when", "samples", "healthy", "half", "9 of 10", "99 of 100", "longest")


class RecordEvidencePart(Model):
    """One kind of evidence."""

    kind: EvidenceKind = Field(description="Which.")
    kept: bool = Field(description="It is in the store.")
    lines: int = Field(description="How many lines it has.")
    bytes: int = Field(description="Its size before it was compressed.")
    message: str = Field("", description="Why it is not kept, or what was left out of it.")


class RecordEvidence(Model):
    """Where the evidence is kept, and whether it was read for this report."""

    state: EvidenceState = Field(description="Kept, Partial or NotKept, as the operator left it.")
    store: str = Field("", description="ConfigMaps, Volume or ObjectStorage.")
    place: str = Field("", description="The first ConfigMap, the folder, or s3://BUCKET/… of the objects.")
    digest: str = Field("", description="sha256 of its manifest.")
    message: str = Field("", description="What is missing, and why.")
    read: bool = Field(description="This report was made with it.")
    verified: bool | None = Field(
        None, description="It is what was written, by the digest of the status; unset: unread."
    )
    problems: list[str] = Field(default_factory=list, description="What is missing or changed, or why it was not read.")
    kinds: list[RecordEvidencePart] = Field(default_factory=list, description="Each kind.")


class RecordLatency(Model):
    """Samples of a probe in one part of the run; lengths of time are of the healthy ones, by nearest rank."""

    samples: int = Field(description="How many there are.")
    healthy: int = Field(description="Those that were healthy.")
    p50_milliseconds: float | None = Field(None, description="Half of them took no longer.")
    p90_milliseconds: float | None = Field(None, description="Nine of ten took no longer.")
    p99_milliseconds: float | None = Field(None, description="99 of 100 took no longer.")
    most_milliseconds: float | None = Field(None, description="The longest.")


class RecordProbe(Model):
    """One probe, sample by sample."""

    check: str = Field(description="The check.")
    section: str = Field(description="probes, detection, errorState or category.")
    probe: str = Field(description="The probe.")
    samples: int = Field(description="Samples taken.")
    recorded: int = Field(description="Those that are in the evidence: not those of an operator that was replaced.")
    before: RecordLatency | None = Field(None, description="Begun before the fault was in force.")
    during: RecordLatency | None = Field(None, description="Begun while it was.")
    after: RecordLatency | None = Field(None, description="Begun once it was cleared.")


@dataclass(frozen=True)
class Kept:
    """The evidence of a subject: opened, or the reason why it is not."""

    opened: Opened | None = None
    problem: str = ""
    probes: Sequence[RecordProbe] = field(default_factory=tuple)
    courses: Sequence[Course] = field(default_factory=tuple)


def with_evidence(subject: Subject, opened: Opened) -> Subject:
    """The same with all injections, and with its probes. Raises ValueError for the evidence of another run."""
    told = opened.manifest
    if (told.get("uid"), told.get("run")) != (subject.uid, subject.status.run):
        raise ValueError(
            f"is of run {told.get('run')} of {told.get('namespace')}/{told.get('name')}, "
            f"and not of {subject.status.run} of {subject.namespace}/{subject.name}"
        )
    injections = [line["injection"] for line in opened.lines(EvidenceKind.INJECTION) if line["type"] == "injection"]
    status = subject.status
    if len(injections) > len(status.injections):
        more = [InjectionStatus.model_validate(each) for each in injections[len(status.injections) :]]
        status = status.model_copy(update={"injections": [*status.injections, *more]})
    kept = Kept(opened, probes=tuple(_probes(subject, opened)), courses=tuple(_courses(subject, opened)))
    return replace(subject, status=status, kept=kept)


def without_evidence(subject: Subject, problem: str) -> Subject:
    """The same, and why its evidence was not read."""
    return replace(subject, kept=Kept(problem=problem))


def experiment_of(opened: Opened) -> Json:
    """The experiment as the evidence has it, for where nothing else is left. Raises ValueError where it has none."""
    for line in opened.lines(EvidenceKind.FINAL_STATE):
        if line["type"] == "experiment":
            found: Json = line["experiment"]
            return found
    raise ValueError(f"does not hold the experiment: {'; '.join(opened.problems) or 'it is not in finalState'}")


def record_evidence(subject: Subject) -> RecordEvidence | None:
    kept, status = subject.kept, subject.status.evidence
    if status is None and kept is None:
        return None
    status = status or EvidenceStatus(
        state=EvidenceState.KEPT, digest=kept.opened.digest if kept and kept.opened else ""
    )
    opened = kept.opened if kept else None
    problems = list(opened.problems) if opened else [kept.problem] if kept and kept.problem else []
    return RecordEvidence(
        state=status.state,
        store=status.store,
        place=status.place,
        digest=status.digest,
        message=redact(status.message),
        read=opened is not None,
        verified=(opened.whole and opened.known) if opened else None,
        problems=[redact(problem) for problem in problems],
        kinds=[RecordEvidencePart(**{**each.to_json(), "message": redact(each.message)}) for each in status.kinds],
    )


def told(subject: Subject) -> str:
    """In a sentence; empty where nothing is kept or told."""
    found = record_evidence(subject)
    if found is None:
        return ""
    status, opened = subject.status.evidence, subject.kept.opened if subject.kept else None
    where = f" in {found.store}, {found.place}, {size(status.bytes)}" if status and found.place else ""
    checked = ""
    if opened is not None:
        checked = ", held against no digest" if not opened.known else ", as it was written" if opened.whole else ""
    why = "; ".join(filter(None, [found.message, *found.problems]))
    return f"{STATES[found.state]}{where}{checked}{f': {why}' if why else ''}"


def latency_rows(subject: Subject) -> Iterator[tuple[str, ...]]:
    """As LATENCY names them."""
    for probe in subject.kept.probes if subject.kept else ():
        for when, part in (("before", probe.before), ("during", probe.during), ("after", probe.after)):
            if part is not None:
                took = (part.p50_milliseconds, part.p90_milliseconds, part.p99_milliseconds, part.most_milliseconds)
                words = ("" if each is None else f"{each:.1f} ms" for each in took)
                yield f"{probe.check}/{probe.probe}", when, f"{part.samples:,}", f"{part.healthy:,}", *words


def _probes(subject: Subject, opened: Opened) -> Iterator[RecordProbe]:
    bounds = _bounds(subject)
    about: dict[tuple[str, str, str], Json] = {}
    taken: dict[tuple[str, str, str], tuple[list[_Part], ...]] = {}
    for line in opened.lines(EvidenceKind.SYSTEM_RESPONSE):
        if line["type"] == "probe":
            about[line["check"], line["section"], line["probe"]] = line
        elif line["type"] == "samples":
            parts = taken.setdefault((line["check"], line["section"], line["probe"]), ([], [], []))
            columns = zip(line["startMicroseconds"], line["tookMicroseconds"], line["said"], strict=True)
            for start, took, said in columns:
                parts[sum(start / 1e6 >= bound for bound in bounds)].append((took, said))
    for (check, section, name), line in about.items():
        found = [_latency(part) for part in taken.get((check, section, name), ([], [], []))]
        yield RecordProbe(
            check=check,
            section=section,
            probe=name,
            samples=line.get("samples", line["history"]["samples"][0]),
            recorded=line["recorded"],
            before=found[0],
            during=found[1],
            after=found[2],
        )


def _courses(subject: Subject, opened: Opened) -> Iterator[Course]:
    """Of the probes that say what healthy means, in their order."""
    taken: dict[str, list[tuple[float, float, bool]]] = {}
    for line in opened.lines(EvidenceKind.SYSTEM_RESPONSE):
        if line["type"] == "samples" and line["section"] == "probes":
            columns = zip(line["startMicroseconds"], line["tookMicroseconds"], line["said"], strict=True)
            samples = ((start / 1e6, took / 1000, not said) for start, took, said in columns)
            taken.setdefault(f"{line['check']}/{line['probe']}", []).extend(samples)
    found = (course(probe, samples, subject.length) for probe, samples in taken.items())
    yield from (each for each in found if each is not None)


_Part = tuple[int, int]
"""Microseconds that a sample took, and what it said."""


def _bounds(subject: Subject) -> tuple[float, ...]:
    """When the fault was in force, in seconds since the start; both ends as wide as they are uncertain."""
    active, cleared = subject.mark(Mark.ACTIVE), subject.mark(Mark.CLEARED)
    if active is None:
        return ()
    start = subject.stretch(active).start
    return (start,) if cleared is None else (start, subject.stretch(cleared).end)


def _latency(part: Sequence[_Part]) -> RecordLatency | None:
    if not part:
        return None
    took = sorted(each for each, said in part if not said)

    def rank(share: float) -> float | None:
        return took[ceil(share * len(took)) - 1] / 1000 if took else None

    return RecordLatency(
        samples=len(part),
        healthy=len(took),
        p50_milliseconds=rank(0.5),
        p90_milliseconds=rank(0.9),
        p99_milliseconds=rank(0.99),
        most_milliseconds=rank(1.0),
    )
