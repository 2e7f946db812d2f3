"""The report as JSON, for programs; its schema is published in docs/report.schema.json.

`python -m bounceback.report.record` prints the schema.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from pydantic import Field

from bounceback.api.status import Aspects, Axes, Figure, Healed, InjectionStatus, ObjectStatus
from bounceback.report.kept import RecordEvidence, RecordProbe, record_evidence
from bounceback.report.lessons import RecordLessons, record_lessons
from bounceback.report.redact import redact
from bounceback.report.repeats import RecordRuns, record_runs
from bounceback.report.snapshots import RecordSnapshot, snapshots
from bounceback.report.subject import Subject
from bounceback.report.workloads import RecordWorkload, record_workloads
from bounceback.types.fields import Model
from bounceback.types.outcome import (
    Cleanup,
    CollapseState,
    InjectionState,
    Judgement,
    Mark,
    Phase,
    RepairState,
    StartState,
    VehicleKind,
    Verdict,
)
from bounceback.types.plan import Rung

Json = dict[str, Any]
REPORT_VERSION: Final = 1


class RecordFinding(Model):
    """One thing that was found; the first one decided."""

    verdict: Verdict = Field(description="What it means for the verdict.")
    reason: str = Field(description="One CamelCase word.")
    message: str = Field(description="For people.")


class RecordSpan(Model):
    """A length of time, known to lie within seconds ± plusMinusSeconds."""

    seconds: float = Field(description="The middle of the interval.")
    plus_minus_seconds: float = Field(description="Half its width.")


class RecordFigures(Model):
    """Lengths of time, read off the marks; what could not be measured is left out."""

    activation: RecordSpan | None = Field(None, description="Planned to active.")
    detection: RecordSpan | None = Field(None, description="Active to detected, or to the first symptom.")
    detected_by: str | None = Field(None, description="System or Probe.")
    outage: RecordSpan | None = Field(None, description="First symptom to recovered.")
    recovery: RecordSpan | None = Field(
        None, description="Cleared to recovered; with expect: Manual from when the repair began."
    )
    repair: RecordSpan | None = Field(None, description="With expect: Manual, from when the repair began to its end.")
    recovered_under_fault: bool = Field(False, description="It came back before the fault was cleared.")


class RecordMark(Model):
    """A moment of the timeline, in seconds since the run started, as the interval that it lies in."""

    mark: Mark = Field(description="Which moment.")
    earliest: float = Field(description="Not before this.")
    latest: float = Field(description="Not after this.")
    source: str = Field(description="Who saw it.")


class RecordPhase(Model):
    """A phase of the run, in seconds since its start."""

    phase: Phase = Field(description="Which phase.")
    start: float = Field(description="When it began.")
    end: float = Field(description="When the next one began.")


class RecordInjection(Model):
    """One fault on one target; times in seconds since the run started, on the operator's clock."""

    name: str = Field(description="Its name.")
    fault: str = Field(description="The entry of spec.faults.")
    kind: str = Field(description="The kind of fault.")
    pod: str = Field(description="The target pod; empty where the target is another object.")
    object: ObjectStatus | None = Field(None, description="The target of an objectFault.")
    healed: Healed | None = Field(None, description="Of an objectFault: who put the object right, and when.")
    node: str = Field(description="Its node.")
    host_network: bool = Field(False, description="What was hit is its node's own network.")
    replaces: str = Field("", description="The injection whose target its own took the place of.")
    replaced_by: str = Field("", description="The pod that took the target's place.")
    gap_milliseconds: int | None = Field(None, description="How long nothing was in force in that place before it.")
    restarts: int | None = Field(
        None, description="How often the target's containers were started again; null: nobody looked."
    )
    vehicle: VehicleKind = Field(description="How the fault got there.")
    vehicle_reason: str = Field(description="Why this vehicle.")
    rung: Rung = Field(description="How it was carried out.")
    state: InjectionState = Field(description="Cleared or Failed.")
    reason: str = Field(description="Why it is in that state.")
    hits: int = Field(description="What it did something to.")
    in_force: float | None = Field(None, description="When it was in force.")
    first_hit: float | None = Field(None, description="When the first hit was counted.")
    cleared: float | None = Field(None, description="When it was reverted.")
    cleanup: Cleanup = Field(description="What was found when looked for what could be left.")
    leftovers: list[str] = Field(description="What was left.")


class RecordStart(Model):
    """A fault that waited for something."""

    fault: str = Field(description="Its name.")
    state: StartState = Field(description="Waiting, Reached or NotStarted.")
    message: str = Field(description="For people: what was seen.")


class RecordLevel(Model):
    """One strength of a fault that grew."""

    percent: int = Field(description="The strength.")
    samples: int = Field(description="Samples that were taken meanwhile.")
    healthy: int = Field(description="Those that were healthy.")


class RecordCollapse(Model):
    """Where the system collapsed as a fault grew."""

    fault: str = Field(description="Its name.")
    state: CollapseState = Field(description="Collapsed, Held or Undecided.")
    held_percent: int = Field(description="At this strength it surely had not collapsed.")
    collapsed_percent: int | None = Field(None, description="At this strength it surely had.")
    message: str = Field(description="For people.")
    levels: list[RecordLevel] = Field(description="In the order in which they came.")


class RecordRepair(Model):
    """With expect: Manual, what became of the repair."""

    state: RepairState = Field(description="Done, Failed, NotRun or Unknown.")
    reason: str = Field(description="Why it is in that state.")
    message: str = Field(description="For people.")
    log: str = Field(description="The end of what it wrote.")


class RecordInvariant(Model):
    """One invariant's outcome."""

    check: str = Field(description="The check.")
    name: str = Field(description="The invariant.")
    result: Judgement = Field(description="Its outcome.")
    message: str = Field(description="For people.")


class RecordView(Model):
    """What one check saw."""

    check: str = Field(description="The check.")
    samples: int = Field(description="Probe samples taken.")
    healthy_samples: int = Field(description="Those that were healthy.")
    symptoms: list[str] = Field(description="First failures.")


class RecordEvent(Model):
    """One line of the timeline."""

    elapsed: float = Field(description="Seconds since the run started.")
    event: str = Field(description="One CamelCase word.")
    message: str = Field(description="For people.")


class Record(Model):
    """The report of one finished experiment."""

    report_version: Literal[1] = Field(description="The version of this format.")
    namespace: str = Field(description="The experiment's namespace.")
    name: str = Field(description="Its name.")
    uid: str = Field(description="Its UID.")
    verdict: Verdict = Field(description="Passed, Failed, Inconclusive, Aborted or Error.")
    reason: str = Field(description="One CamelCase word.")
    message: str = Field(description="For people.")
    started_at: str | None = Field(None, description="RFC 3339, UTC.")
    finished_at: str | None = Field(None, description="RFC 3339, UTC.")
    length_seconds: float = Field(description="The length of the run.")
    runs: RecordRuns | None = Field(
        None, description="Of repeated runs: all of them. What else is told below is the last one's."
    )
    axes: Axes | None = Field(None, description="The four axes of the verdict.")
    aspects: Aspects | None = Field(None, description="Six sides of the recovery.")
    figures: RecordFigures = Field(description="Lengths of time.")
    findings: list[RecordFinding] = Field(description="All that was found.")
    lessons: RecordLessons = Field(default_factory=RecordLessons, description="What the run teaches.")
    targets: dict[str, int] = Field(description="How many pods or objects were chosen for each target.")
    matching: dict[str, int] = Field(description="Among how many (of pods: running) that was.")
    injections: list[RecordInjection] = Field(description="The first hundred; all where the evidence was read.")
    injections_total: int = Field(description="How many there were.")
    hits_total: int = Field(description="The hits of all of them.")
    marks: list[RecordMark] = Field(description="The moments of the timeline.")
    phases: list[RecordPhase] = Field(description="The phases of the run.")
    starts: list[RecordStart] = Field(description="Faults with startWhen: whether that came.")
    collapses: list[RecordCollapse] = Field(description="Faults with collapse: what was seen as they grew.")
    repair: RecordRepair | None = Field(None, description="With expect: Manual, what became of the repair.")
    gaps: list[tuple[float, float]] = Field(description="When nobody was looking: from and to, in seconds.")
    snapshots: list[RecordSnapshot] = Field(
        default_factory=list, description="What was observed for invariants: when, and what could not be read."
    )
    invariants: list[RecordInvariant] = Field(description="Each invariant's outcome.")
    workloads: list[RecordWorkload] = Field(default_factory=list, description="Checks with a workload: its account.")
    checks: list[RecordView] = Field(description="What each check saw.")
    timeline: list[RecordEvent] = Field(description="What happened, in order.")
    timeline_dropped: int = Field(description="Lines that the timeline had no room for.")
    evidence: RecordEvidence | None = Field(None, description="Where the evidence is, and whether it was read.")
    probes: list[RecordProbe] = Field(default_factory=list, description="Each probe, where the evidence was read.")


def record(subject: Subject) -> Record:
    """Raises ValueError for an experiment that has no verdict yet."""
    status = subject.status
    if status.verdict is None:
        raise ValueError(f"{subject.name} has no verdict yet: its phase is {status.phase}")
    return Record(
        report_version=REPORT_VERSION,
        namespace=subject.namespace,
        name=subject.name,
        uid=subject.uid,
        verdict=status.verdict,
        reason=status.reason,
        message=redact(status.message),
        started_at=status.started_at.time if status.started_at else None,
        finished_at=status.finished_at,
        length_seconds=_round(subject.length),
        runs=record_runs(subject),
        axes=status.axes,
        aspects=status.aspects,
        figures=_figures(subject),
        findings=[
            RecordFinding(verdict=f.verdict, reason=f.reason, message=redact(f.message)) for f in status.findings
        ],
        lessons=record_lessons(subject),
        targets=status.targets,
        matching=status.matching,
        injections=[_injection(subject, injection) for injection in status.injections],
        injections_total=status.injection_counts.total,
        hits_total=status.injection_counts.hits,
        marks=_marks(subject),
        phases=[
            RecordPhase(phase=phase, start=_round(time.start), end=_round(time.end)) for phase, time in subject.phases()
        ],
        starts=[RecordStart(fault=s.fault, state=s.state, message=redact(s.message)) for s in status.starts],
        collapses=[
            RecordCollapse(
                fault=c.fault,
                state=c.state,
                held_percent=c.held_percent,
                collapsed_percent=c.collapsed_percent,
                message=c.message,
                levels=[RecordLevel(percent=e.percent, samples=e.samples, healthy=e.healthy) for e in c.levels],
            )
            for c in status.collapses
        ],
        repair=_repair(subject),
        gaps=[(_round(subject.seconds(gap[0])), _round(subject.seconds(gap[-1]))) for gap in status.gaps],
        snapshots=list(snapshots(subject)),
        invariants=[
            RecordInvariant(check=i.check, name=i.name, result=i.result, message=redact(i.message))
            for i in status.invariants
        ],
        workloads=list(record_workloads(subject)),
        checks=[
            RecordView(
                check=view.name,
                samples=view.samples,
                healthy_samples=view.healthy_samples,
                symptoms=[redact(symptom) for symptom in view.symptoms],
            )
            for view in status.views
        ],
        timeline=[
            RecordEvent(elapsed=h.elapsed_milliseconds / 1000, event=h.event, message=redact(h.message))
            for h in status.timeline
        ],
        timeline_dropped=status.timeline_dropped,
        evidence=record_evidence(subject),
        probes=list(subject.kept.probes) if subject.kept else [],
    )


def as_json(subject: Subject) -> str:
    return json.dumps(record(subject).to_json(), indent=2, ensure_ascii=False) + "\n"


def schema() -> str:
    """The JSON schema (draft 2020-12) of what `as_json` gives."""
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Record.model_json_schema()}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _figures(subject: Subject) -> RecordFigures:
    figures = subject.status.figures

    def span(figure: Figure | None) -> RecordSpan | None:
        if figure is None:
            return None
        return RecordSpan(seconds=figure.milliseconds / 1000, plus_minus_seconds=figure.plus_minus_milliseconds / 1000)

    return RecordFigures(
        activation=span(figures.activation),
        detection=span(figures.detection),
        detected_by=figures.detected_by,
        outage=span(figures.outage),
        recovery=span(figures.recovery),
        repair=span(figures.repair),
        recovered_under_fault=figures.recovered_under_fault,
    )


def _repair(subject: Subject) -> RecordRepair | None:
    repair = subject.status.repair
    if repair is None:
        return None
    return RecordRepair(
        state=repair.state, reason=repair.reason, message=redact(repair.message), log=redact(repair.log)
    )


def _marks(subject: Subject) -> list[RecordMark]:
    stretches = [(mark, subject.stretch(mark)) for mark in subject.status.marks]
    return [
        RecordMark(mark=m.mark, earliest=_round(s.start), latest=_round(s.end), source=redact(m.source))
        for m, s in stretches
    ]


def _injection(subject: Subject, injection: InjectionStatus) -> RecordInjection:
    moments = (injection.in_force_at, injection.first_hit_at, injection.cleared_at)
    in_force, first_hit, cleared = (None if m is None else _round(subject.on_target(injection, m)) for m in moments)
    return RecordInjection(
        name=injection.name,
        fault=injection.fault,
        kind=subject.kind_of(injection.fault),
        pod=injection.pod,
        object=injection.object,
        healed=injection.healed,
        node=injection.node,
        host_network=injection.host_network,
        replaces=injection.replaces,
        replaced_by=injection.replaced_by,
        gap_milliseconds=injection.gap_milliseconds,
        restarts=injection.restarts,
        vehicle=injection.vehicle,
        vehicle_reason=redact(injection.vehicle_reason),
        rung=injection.rung,
        state=injection.state,
        reason=injection.reason,
        hits=injection.hits,
        in_force=in_force,
        first_hit=first_hit,
        cleared=cleared,
        cleanup=injection.cleanup,
        leftovers=[redact(left) for left in injection.leftovers],
    )


def _round(seconds: float) -> float:
    """To the millisecond, which is more than any clock here is good for."""
    return round(seconds, 3)


if __name__ == "__main__":
    print(schema(), end="")
