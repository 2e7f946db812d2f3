"""The status of a FaultExperiment: all that a fresh operator needs to go on, and all that a reader wants to know."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.collapse import CollapseStatus
from bounceback.api.evidence_status import EvidenceStatus
from bounceback.api.meta import Condition
from bounceback.api.reference_run import ReferenceStatus
from bounceback.api.runs import RunsStatus
from bounceback.api.workload_status import WorkloadStatus
from bounceback.types.fields import StatusModel
from bounceback.types.instants import Instant, Interval
from bounceback.types.objects import ObjectKey
from bounceback.types.outcome import (
    Aspect,
    Cleanup,
    HealedBy,
    InjectionAxis,
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
from bounceback.types.run_names import REFERENCE, run_name

STATUS_FORMAT = 1
LISTED_INJECTIONS = 100
TIMELINE_LIMIT = 200


class Moment(StatusModel):
    """A reading of one machine's clocks."""

    boot: str = Field(description="The id of the boot whose clock was read.")
    nanos: int = Field(description="Boot-time clock, in nanoseconds.")
    time: str = Field(description="UTC (RFC 3339), for people.")
    utc: float = Field(description="UTC, seconds since the epoch.")

    @classmethod
    def of(cls, instant: Instant) -> Moment:
        return cls(boot=instant.boot, nanos=instant.nanos, time=instant.rfc3339(), utc=round(instant.utc, 6))

    def instant(self) -> Instant:
        return Instant(self.boot, self.nanos, self.utc)


class MarkStatus(StatusModel):
    """A moment of the timeline, as the interval that it is known to lie in."""

    mark: Mark = Field(
        description="Planned, Active, FirstSymptom, Detected, Cleared, RepairBegan, Repaired, Recovered, Stable or "
        "Consistent."
    )
    earliest: Moment = Field(description="Not before this.")
    latest: Moment = Field(description="Not after this.")
    source: str = Field("", max_length=253, description="Who saw it: a probe, an injection.")

    @classmethod
    def of(cls, mark: Mark, interval: Interval, source: str = "") -> MarkStatus:
        return cls(mark=mark, earliest=Moment.of(interval.earliest), latest=Moment.of(interval.latest), source=source)

    def interval(self) -> Interval:
        return Interval(self.earliest.instant(), self.latest.instant())


class Happening(StatusModel):
    """One line of the timeline."""

    time: str = Field(description="UTC (RFC 3339).")
    elapsed_milliseconds: int = Field(description="Since the run started.")
    event: str = Field(max_length=64, description="One CamelCase word.")
    message: str = Field("", max_length=512, description="For people.")


class ObjectStatus(StatusModel):
    """A Kubernetes object as a target; what it holds is never shown."""

    api_version: str = Field(description="Its apiVersion.")
    kind: str = Field(description="Its kind.")
    name: str = Field(description="Its name.")
    uid: str = Field(description="Its UID.")

    @classmethod
    def of(cls, key: ObjectKey, uid: str) -> ObjectStatus:
        return cls(api_version=key.api_version, kind=key.kind, name=key.name, uid=uid)


class Healed(StatusModel):
    """How a changed object came to be as it was."""

    by: HealedBy = Field(description="System: by itself, while the fault lasted. Undo: because we put it back.")
    milliseconds: int = Field(description="After the change was in force, as a watch of the object told it.")


def held(uid: str, network_of: str) -> tuple[str, ...]:
    """The target, and the node whose own network is hit, where it is: pods that share it are hit with it."""
    return (uid, f"network of {network_of}") if network_of else (uid,)


class InjectionStatus(StatusModel):
    """One fault on one target."""

    name: str = Field(description="Deterministic: from the experiment's UID, the fault and the target's UID.")
    fault: str = Field(description="The entry of spec.faults.")
    pod: str = Field("", description="The target pod; empty where the target is another object.")
    pod_uid: str = Field("", description="Its UID.")
    node: str = Field("", description="Its node.")
    host_network: bool = Field(False, description="The target has its node's own network, and that is what was hit.")
    object: ObjectStatus | None = Field(None, description="The target of an objectFault.")
    vehicle: VehicleKind = Field(description="How the fault got there.")
    vehicle_reason: str = Field("", max_length=256, description="Why this vehicle.")
    agent: str = Field("", description="The ephemeral container or the pod that carries it.")
    rung: Rung = Field(description="How it was carried out.")
    state: InjectionState = Field(InjectionState.PLANNED, description="Planned, Active, Cleared or Failed.")
    reason: str = Field("", max_length=64, description="Why it is in that state.")
    message: str = Field("", max_length=512, description="For people.")
    hits: int = Field(0, description="Packets, requests or objects that it did something to.")
    percent: int = Field(100, description="The share of its strength that its pattern gives it now; 0: it pauses.")
    in_force_at: Moment | None = Field(None, description="When it was in force, on the clock of the target's node.")
    first_hit_at: Moment | None = Field(None, description="When the first hit was counted, on the same clock.")
    cleared_at: Moment | None = Field(None, description="When it was reverted, on the same clock.")
    clock_offset_milliseconds: int | None = Field(
        None, description="That clock minus the operator's; 0 on the same boot; unset: never measured."
    )
    clock_error_milliseconds: int = Field(0, description="Half the width of the interval that the offset lies in.")
    clock_boot_milliseconds: int = Field(
        0,
        description="Added to it: that boot-time clock minus the operator's, of the boot that clockAgainst names.",
    )
    clock_against: str = Field(
        "", description="The id of the boot whose clock the offset is measured against: the operator's."
    )
    cleanup: Cleanup = Field(Cleanup.UNVERIFIED, description="What was found when looked for what could be left.")
    leftovers: list[str] = Field(default_factory=list, max_length=10, description="What was left, if anything.")
    behavior: dict[str, Any] = Field(
        default_factory=dict, description="Of a fault on a client of the Kubernetes API: how the client took it."
    )
    owner: str = Field("", description="The UID of what keeps pods like it there: a Deployment, a StatefulSet.")
    replaces: str = Field("", description="The injection whose target its own took the place of (followReplacements).")
    replaced_by: str = Field("", description="The pod that took the target's place when that was gone.")
    gap_milliseconds: int | None = Field(
        None, description="How long nothing was in force in that place, from the end of the one that it replaces."
    )
    restarts_before: int = Field(0, description="How often its containers had been started again when it was planned.")
    restarts: int | None = Field(
        None, description="How often they have been since, as the kubelet counts it; unset: nobody has looked."
    )
    healed: Healed | None = Field(None, description="Of an objectFault: who put the object right, and when.")
    planned_utc: float = Field(0, description="UTC seconds, on the operator's clock: when it was planned.")
    waiting: bool = Field(
        False, description="What its fault's startWhen waits for has not come; startAt is the latest that there can be."
    )
    start_at: float = Field(0, description="UTC seconds: when it is to begin.")
    start_before: float = Field(0, description="UTC seconds: the agent refuses to begin later.")
    not_after: float = Field(0, description="UTC seconds: gone by then whatever happens.")

    @property
    def on(self) -> str:
        """The target, for people: web-0, or Deployment web."""
        return f"{self.object.kind} {self.object.name}" if self.object else self.pod

    @property
    def on_uid(self) -> str:
        return self.object.uid if self.object else self.pod_uid

    @property
    def holds(self) -> tuple[str, ...]:
        """What no other experiment may hit meanwhile."""
        return held(self.on_uid, self.node if self.host_network else "")


class StartStatus(StatusModel):
    """What became of a fault's startWhen."""

    fault: str = Field(description="The entry of spec.faults.")
    state: StartState = Field(StartState.WAITING, description="Waiting, Reached or NotStarted (it never will).")
    reached_at: Moment | None = Field(None, description="When what it waited for was seen to have come.")
    message: str = Field("", max_length=512, description="For people: what it waits for, or what was seen.")


class InjectionCounts(StatusModel):
    """All injections, listed or not."""

    total: int = Field(0, description="All there are.")
    planned: int = Field(0, description="Not yet in force.")
    active: int = Field(0, description="In force now.")
    cleared: int = Field(0, description="Reverted.")
    failed: int = Field(0, description="Could not be carried out.")
    hits: int = Field(0, description="Sum over all of them.")


class Figure(StatusModel):
    """A length of time, known to lie within milliseconds ± plusMinusMilliseconds."""

    milliseconds: int = Field(description="The middle of the interval.")
    plus_minus_milliseconds: int = Field(description="Half its width.")


class Figures(StatusModel):
    """Read off the marks."""

    detection: Figure | None = Field(None, description="Active to detected (or to the first symptom).")
    detected_by: str | None = Field(None, description="System: a signal of its own. Probe: the first symptom.")
    outage: Figure | None = Field(None, description="First symptom to recovered.")
    recovery: Figure | None = Field(
        None, description="Cleared to recovered; with expect: Manual from when the repair began."
    )
    repair: Figure | None = Field(None, description="With expect: Manual, from when the repair began to its end.")
    recovered_under_fault: bool = Field(False, description="It came back before the fault was cleared.")
    activation: Figure | None = Field(None, description="Planned to active.")


class Axes(StatusModel):
    """The four axes of the verdict."""

    injection: InjectionAxis = Field(description="Proven, Unproven or Failed.")
    recovery: Judgement = Field(description="Passed, Failed or Inconclusive.")
    consistency: Judgement = Field(description="Passed, Failed or Inconclusive.")
    cleanup: Cleanup = Field(description="Clean, Leftover or Unverified.")


class Aspects(StatusModel):
    """Six sides of the recovery; NotChecked where nothing observes one."""

    detection: Aspect = Field(Aspect.NOT_CHECKED, description="Did the system itself say that something is wrong?")
    categorization: Aspect = Field(Aspect.NOT_CHECKED, description="Did it tell what kind of trouble it is?")
    strategy: Aspect = Field(Aspect.NOT_CHECKED, description="Did it react as such trouble asks for?")
    success: Aspect = Field(Aspect.NOT_CHECKED, description="Did it come back?")
    consistency: Aspect = Field(Aspect.NOT_CHECKED, description="Was nothing lost or doubled?")
    performance: Aspect = Field(
        Aspect.NOT_CHECKED, description="Was it as fast again as before? Where a check has performance."
    )


class Finding(StatusModel):
    """One thing that was found; all are reported, the first that applies decides."""

    verdict: Verdict = Field(description="What it means for the verdict.")
    reason: str = Field(max_length=64, description="One CamelCase word.")
    message: str = Field(max_length=1024, description="For people: what, and the way out.")


class CheckCopy(StatusModel):
    """A check as it was when the run started."""

    name: str = Field(description="The check's name.")
    uid: str = Field(description="Its UID.")
    generation: int = Field(description="Its generation then.")
    spec: RecoveryCheckSpec = Field(
        description="Its spec then: as in a RecoveryCheck.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )


class CheckView(StatusModel):
    """What one check saw."""

    name: str = Field(description="The check's name.")
    samples: int = Field(0, description="Probe samples taken.")
    healthy_samples: int = Field(0, description="Those that were healthy.")
    symptoms: list[str] = Field(
        default_factory=list, max_length=10, description="First failures, as the probes told them."
    )


class InvariantResult(StatusModel):
    """One invariant's outcome."""

    check: str = Field(description="The check's name.")
    name: str = Field(description="The invariant's name.")
    result: Judgement = Field(description="Passed, Failed or Inconclusive.")
    message: str = Field("", max_length=1024, description="For people: what was found.")


class RepairStatus(StatusModel):
    """The declared repair of expect: Manual, and what became of it."""

    name: str = Field(description="Deterministic: from the experiment's UID. The Job's; by hand, what the person says.")
    uid: str = Field("", description="The Job's UID. It is made suspended and let go later: no other is ever let go.")
    state: RepairState = Field(
        RepairState.PLANNED, description="Planned, Running, Done, Failed, NotRun or Unknown (began, end not seen)."
    )
    reason: str = Field("", max_length=64, description="Why it is in that state.")
    message: str = Field("", max_length=512, description="For people.")
    began_at: Moment | None = Field(None, description="Written down before it was let go.")
    log: str = Field("", max_length=4096, description="The end of what the task wrote; credentials are hidden.")


class FaultExperimentStatus(StatusModel):
    """Written before each step, so that it can be repeated or resumed by anyone."""

    format: int = Field(STATUS_FORMAT, description="An operator leaves a run of a newer format alone.")
    revision: int = Field(0, description="Counts the operator's writes: how it knows its own from another's.")
    observed_generation: int | None = Field(None, description="The generation that this status speaks of.")
    phase: Phase = Field(Phase.PENDING, description="Where the run is.")
    reason: str = Field("", max_length=64, description="One CamelCase word on the phase.")
    message: str = Field("", max_length=2048, description="For people.")
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(
        default_factory=list, description="Succeeded, Ready, Reconciling, Stalled, EvidenceKept."
    )
    run_uid: str | None = Field(None, description="The UID that this run belongs to; a copy with another does not run.")
    started_at: Moment | None = Field(None, description="When the run started.")
    phase_since: Moment | None = Field(None, description="When this phase began.")
    deadline_at: float | None = Field(None, description="UTC seconds: the run ends by then.")
    finished_at: str | None = Field(None, description="When it finished (RFC 3339).")
    ending: Finding | None = Field(None, description="Why the run was ended before its time, if it was.")
    checks: list[CheckCopy] = Field(
        default_factory=list, max_length=10, description="The checks, as they were at the start."
    )
    targets: dict[str, int] = Field(
        default_factory=dict, description="How many pods or objects were chosen for each target."
    )
    matching: dict[str, int] = Field(default_factory=dict, description="Among how many (of pods: running) that was.")
    injections: Annotated[list[InjectionStatus], Field(max_length=LISTED_INJECTIONS)] = Field(
        default_factory=list, description="The first hundred; all are in the journal."
    )
    injection_counts: InjectionCounts = Field(default_factory=InjectionCounts, description="All of them.")
    starts: list[StartStatus] = Field(
        default_factory=list, max_length=20, description="Faults with startWhen: whether that has come."
    )
    collapses: list[CollapseStatus] = Field(
        default_factory=list, max_length=20, description="Faults with collapse: what was seen as they grew."
    )
    strength: dict[str, int] = Field(
        default_factory=dict, description="By fault with a ramp: the percent of its strength that was last told of."
    )
    marks: list[MarkStatus] = Field(default_factory=list, max_length=16, description="The timeline's moments.")
    workloads: list[WorkloadStatus] = Field(
        default_factory=list, max_length=10, description="Checks with a workload: how it went, and its account."
    )
    repair: RepairStatus | None = Field(None, description="With expect: Manual, the repair and what became of it.")
    gaps: list[list[Moment]] = Field(
        default_factory=list, max_length=20, description="When nobody was looking: from, to."
    )
    observed: dict[str, Any] = Field(default_factory=dict, description="What was read before, at clear and after.")
    histories: dict[str, Any] = Field(default_factory=dict, description="What the probes saw so far, condensed.")
    views: list[CheckView] = Field(default_factory=list, max_length=10, description="What each check saw.")
    invariants: list[InvariantResult] = Field(default_factory=list, max_length=800, description="Each one's outcome.")
    figures: Figures = Field(default_factory=Figures, description="Read off the marks.")
    verdict: Verdict | None = Field(None, description="Passed, Failed, Inconclusive, Aborted or Error.")
    axes: Axes | None = Field(None, description="The four axes of the verdict.")
    aspects: Aspects | None = Field(None, description="Six sides of the recovery.")
    findings: list[Finding] = Field(default_factory=list, max_length=50, description="All that was found.")
    timeline: Annotated[list[Happening], Field(max_length=TIMELINE_LIMIT)] = Field(
        default_factory=list, description="What happened, in order."
    )
    timeline_dropped: int = Field(0, description="Lines left out because the timeline was full.")
    detected: str | None = Field(None, description="For the DETECTED column; of repeated runs the median.")
    recovered: str | None = Field(None, description="For the RECOVERED column; of repeated runs the median.")
    runs: RunsStatus | None = Field(None, description="Of repeated runs: all of them so far.")
    reference: ReferenceStatus | None = Field(None, description="The reference run, where one is asked for.")
    evidence: EvidenceStatus | None = Field(None, description="Where the evidence is kept, and its digest.")

    @property
    def run(self) -> str:
        """What the names of all that this run makes follow from: the experiment's UID, and a later run's number."""
        uid = self.run_uid or ""
        if self.is_reference:
            return run_name(uid, REFERENCE)
        return uid if self.runs is None else run_name(uid, self.runs.number)

    @property
    def is_reference(self) -> bool:
        """It tells of the run without faults that comes first."""
        return self.reference is not None and not self.reference.over
