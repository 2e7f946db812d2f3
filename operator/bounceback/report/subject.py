"""What a report speaks of: one experiment, with all its times brought onto one scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import FaultExperimentStatus, InjectionStatus, MarkStatus, Moment
from bounceback.engine.evidence import on_our_clock
from bounceback.types.outcome import Mark, Phase

if TYPE_CHECKING:
    from bounceback.report.kept import Kept


@dataclass(frozen=True, slots=True)
class Stretch:
    """From one time to another, in seconds since the run started."""

    start: float
    end: float


@dataclass(frozen=True)
class Subject:
    """An experiment as the API server gives it."""

    namespace: str
    name: str
    uid: str
    spec: FaultExperimentSpec
    status: FaultExperimentStatus
    kept: Kept | None = None  # the evidence, where it was looked for

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Subject:
        """Raises ValueError for what is not an experiment that this version understands."""
        if body.get("kind") != "FaultExperiment":
            raise ValueError(f"must be a FaultExperiment, and is {body.get('kind')!r}")
        metadata = body["metadata"]
        try:
            spec = FaultExperimentSpec.model_validate(body["spec"])
            status = FaultExperimentStatus.model_validate(body.get("status") or {})
        except ValidationError as error:
            raise ValueError(f"is of a version of Bounceback that this one does not understand: {error}") from error
        return cls(metadata.get("namespace", ""), metadata["name"], metadata.get("uid", ""), spec, status)

    @property
    def finished(self) -> bool:
        return self.status.phase is Phase.FINISHED

    @property
    def never_injected(self) -> bool:
        """It ended before anything was touched."""
        return self.status.injection_counts.total == 0

    def kind_of(self, fault: str) -> str:
        """networkDelay, for the name of a fault."""
        return next((entry.fault.kind for entry in self.spec.faults if entry.name == fault), "")

    def seconds(self, moment: Moment) -> float:
        """Since the run started."""
        start = self.status.started_at or moment
        return moment.instant().since(start.instant())

    def mark(self, mark: Mark) -> MarkStatus | None:
        return next((m for m in self.status.marks if m.mark is mark), None)

    def stretch(self, mark: MarkStatus) -> Stretch:
        """The interval that the mark lies in."""
        return Stretch(self.seconds(mark.earliest), self.seconds(mark.latest))

    def on_target(self, injection: InjectionStatus, moment: Moment) -> float:
        """A time on the target's clock, as seconds since the run started on the operator's."""
        start = self.status.started_at
        there = on_our_clock(injection, moment, start.instant()) if start else None
        if start is None or there is None:
            return self.seconds(moment)
        return (there.earliest.since(start.instant()) + there.latest.since(start.instant())) / 2

    def phases(self) -> list[tuple[Phase, Stretch]]:
        """Each phase with its time, but for Finished, which has none."""
        names = {str(phase): phase for phase in Phase}
        entered = [(names[h.event], h.elapsed_milliseconds / 1000) for h in self.status.timeline if h.event in names]
        if not entered or entered[0][0] is not Phase.PENDING:
            entered.insert(0, (Phase.PENDING, 0.0))
        ends = [start for _, start in entered[1:]] + [self.length]
        return [
            (phase, Stretch(start, end))
            for (phase, start), end in zip(entered, ends, strict=True)
            if phase is not Phase.FINISHED
        ]

    @property
    def length(self) -> float:
        """Seconds from the start to the last thing that is known."""
        told = [h.elapsed_milliseconds / 1000 for h in self.status.timeline]
        return max([*told, *(self.seconds(mark.latest) for mark in self.status.marks)], default=0.0)
